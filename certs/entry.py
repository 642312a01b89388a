"""What the registry keeps: entries, what was last issued for them, and denials."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plantroom.wire.errors import UsageError
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import check_level

SVID_TTL_S = 3600
SVID_TTL_S_MIN, SVID_TTL_S_MAX = 2, 7 * 86_400
HINT_LENGTH_MAX = 1024
SELECTORS_MAX = 64
_SELECTOR = re.compile(r"[a-z0-9_.-]{1,64}:[^\x00-\x1f\x7f]{1,512}")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registration entry, as in SPIRE's `entry create`.

    `dns` and `ips` go into the SVID beside the ID; `selectors` and `parent` say who may ask for it,
    and `hint` tells whoever gets several SVIDs what this one is for.
    """

    spiffe_id: SpiffeId
    role: str
    parent: str = ""
    selectors: tuple[str, ...] = ()
    ttl_s: int = SVID_TTL_S
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    created_us: int = 0
    hint: str = ""

    def __post_init__(self) -> None:
        """Check what would otherwise fail when an SVID is issued."""
        check_level(self.spiffe_id.name)
        if not SVID_TTL_S_MIN <= self.ttl_s <= SVID_TTL_S_MAX:
            raise UsageError(
                f"life is {self.ttl_s} s, from {SVID_TTL_S_MIN} to {SVID_TTL_S_MAX} is possible",
                where=str(self.spiffe_id),
            )
        self._check_selectors()
        for name in self.dns:
            if not _HOST_NAME.fullmatch(name):
                raise UsageError("not a DNS name", where=name[:80])
        for address in self.ips:
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise UsageError("not an IP address", where=address[:80]) from error
        if len(self.hint) > HINT_LENGTH_MAX:  # SPIFFE Workload API 5.2.1
            raise UsageError(f"hint is longer than {HINT_LENGTH_MAX}", where=str(self.spiffe_id))

    def _check_selectors(self) -> None:
        """Check their form: one that nothing can match would admit nobody, silently."""
        if len(self.selectors) > SELECTORS_MAX:
            raise UsageError(f"more than {SELECTORS_MAX} selectors", where=str(self.spiffe_id))
        for selector in self.selectors:
            if not _SELECTOR.fullmatch(selector):
                raise UsageError(
                    "not a selector", where=selector[:80], remedy="write TYPE:VALUE, as unix:uid:0"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The newest SVID that was issued for an entry."""

    spiffe_id: SpiffeId
    serial: str
    at_us: int
    not_after_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Denials:
    """What is revoked: name to reason. Serials are upper-case hex."""

    spiffe_ids: Mapping[str, str] = field(default_factory=dict)
    serials: Mapping[str, str] = field(default_factory=dict)


def to_row(entry: Entry) -> tuple[Any, ...]:
    """Return the columns of table `entry`."""
    return (
        str(entry.spiffe_id),
        entry.role,
        entry.parent,
        json.dumps(entry.selectors),
        entry.ttl_s,
        json.dumps(entry.dns),
        json.dumps(entry.ips),
        entry.created_us,
        entry.hint,
    )


def from_row(row: tuple[Any, ...]) -> Entry:
    """Build an entry from the columns of table `entry`."""
    spiffe_id, role, parent, selectors, ttl_s, dns, ips, created_us, hint = row
    return Entry(
        spiffe_id=SpiffeId.parse(spiffe_id),
        role=role,
        parent=parent,
        selectors=tuple(json.loads(selectors)),
        ttl_s=ttl_s,
        dns=tuple(json.loads(dns)),
        ips=tuple(json.loads(ips)),
        created_us=created_us,
        hint=hint,
    )
