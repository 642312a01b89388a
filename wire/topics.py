"""Every topic of Plantroom: build and parse are inverses, and no other module spells one.

A topic is a `Topic(site, family, rest)`: `v1/{site}/{family}/{rest…}`. `FAMILIES` says for each
family how many levels follow, what they are called, whether it is retained, and whether it crosses
the bridge and which way. Source: docs/reference/topics.md is generated from this table.
"""

import re
from dataclasses import dataclass
from typing import Literal

from plantroom.wire.errors import TopicError

VERSION = "v1"
CLOUD_SITE = "cloud"
GATEWAY = "gateway"
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")

Crossing = Literal["no", "up", "down", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One shape of topic: its levels after `v1/{site}/`, in order; a bare word is a constant."""

    name: str
    levels: tuple[str, ...]
    retained: bool = False
    crosses: Crossing = "no"
    what: str


def _family(pattern: str, what: str, *, retained: bool = False, crosses: Crossing = "no") -> Family:
    name, *levels = pattern.split("/")
    return Family(name=name, levels=tuple(levels), retained=retained, crosses=crosses, what=what)


FAMILIES: tuple[Family, ...] = (
    _family("telemetry/{device}", "readings: sensor to gateway; they cross in batches"),
    _family("presence/{device}", "birth and last will, with epoch", retained=True, crosses="up"),
    _family("twin/{device}/desired", "settings wanted of a device", retained=True, crosses="down"),
    _family("twin/{device}/reported", "settings that a device has", retained=True, crosses="up"),
    _family("call/{target}/{capability}/{caller}", "a request", crosses="both"),
    _family("reply/{caller}/{id}", "the answer to a request", crosses="both"),
    _family("alarm/{rule}/{device}", "an alarm's state", retained=True, crosses="up"),
    _family("uplink/{gateway}/live", "batches of what has just arrived", crosses="up"),
    _family("uplink/{gateway}/backfill", "batches of the backlog and of refills", crosses="up"),
    _family("uplink/{gateway}/hello", "ranges and digests that the gateway has", crosses="up"),
    _family("receipt/{gateway}", "what is stored, quarantined or unreadable", crosses="down"),
    _family("refill/{gateway}", "holes that ingest asks for", crosses="down"),
    _family("denylist/{issuer}", "signed list of the revoked", retained=True, crosses="both"),
    _family("policy", "policy revision", retained=True, crosses="down"),
    _family("bundle/{trust-domain}", "trust bundle", retained=True, crosses="both"),
    _family("ota/trust/{n}", "trust document n", retained=True, crosses="down"),
    _family("ota/head", "which manifest is current", retained=True, crosses="down"),
    _family("ota/{class}/manifest", "update manifest of a class", retained=True, crosses="down"),
    _family("ota/{device}/assign", "campaign's assignment", retained=True, crosses="down"),
    _family("ota/{device}/get", "request for chunks"),
    _family("ota/{device}/chunk/{n}", "a chunk for one device"),
    _family("ota/{device}/state", "state of an update", retained=True, crosses="up"),
    _family("fw/{digest}/{n}", "a chunk for all: a gateway's broadcast, an author's upload"),
    _family("view/{device}/{point}", "latest value as JSON, for people", retained=True),
)


def check_level(text: str) -> str:
    """Return `text` if it may be one level of our topics (also a device's or site's name).

    Raises:
        TopicError: when it is empty, too long, or has a character outside `[A-Za-z0-9._:-]`.
    """
    if not _LEVEL.fullmatch(text):
        raise TopicError("topic level must be [A-Za-z0-9][A-Za-z0-9._:-]{0,63}", where=text[:80])
    return text


def build(pattern: str, site: str, *names: str) -> str:
    """Build a topic of the family with this pattern, its placeholders filled in order.

    >>> build("twin/{device}/desired", "building-1", "hvac-001")
    'v1/building-1/twin/hvac-001/desired'

    Raises:
        TopicError: when a name may not be a level, or the number of names is wrong.
    """
    rest = iter(names)
    levels = []
    for level in pattern.split("/"):
        if level.startswith("{"):
            name = next(rest, None)
            if name is None:
                raise TopicError(f"topic {pattern} needs a name for {level}")
            levels.append(check_level(name))
        else:
            levels.append(level)
    if next(rest, None) is not None:
        raise TopicError(f"too many names for topic {pattern}")
    return "/".join((VERSION, check_level(site), *levels))


def subscription(pattern: str, site: str, *names: str) -> str:
    """Build a filter: like `build`, but `+` may stand for the site or for any name."""
    rest = iter(names)
    levels = [(next(rest, "+") if level.startswith("{") else level) for level in pattern.split("/")]
    if next(rest, None) is not None:
        raise TopicError(f"too many names for topic {pattern}")
    for level in (site, *levels):
        if level != "+":
            check_level(level)
    return "/".join((VERSION, site, *levels))


@dataclass(frozen=True, slots=True)
class Topic:
    """A parsed topic: its site, the pattern of its family, and the names in it, in order."""

    site: str
    pattern: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return build(self.pattern, self.site, *self.names)


def parse(text: str) -> Topic:
    """Parse a concrete topic; the inverse of `build`.

    Raises:
        TopicError: when the topic is of no family.
    """
    version, _, tail = text.partition("/")
    site, _, rest = tail.partition("/")
    if version != VERSION or not _LEVEL.fullmatch(site):
        raise TopicError(f"topic does not start with {VERSION}/{{site}}/", where=text[:80])
    levels = rest.split("/")
    for family in FAMILIES:
        if levels[0] == family.name and len(levels) == len(family.levels) + 1:
            names = _names(family, levels[1:])
            if names is not None:
                return Topic(site, "/".join((family.name, *family.levels)), names)
    raise TopicError("topic is of no known family", where=text[:80])


def _names(family: Family, levels: list[str]) -> tuple[str, ...] | None:
    names = []
    for wanted, level in zip(family.levels, levels, strict=True):
        if wanted.startswith("{"):
            if not _LEVEL.fullmatch(level):
                return None
            names.append(level)
        elif wanted != level:
            return None
    return tuple(names)
