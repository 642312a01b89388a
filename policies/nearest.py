"""For a denial: the nearest rule that would have allowed, and what was missing.

Found by asking: one thing after the other is put right in the question or in what is known of its
asker, until the policy itself says yes. So it holds for any policy that reads the same input; what
is tried for a topic comes from the grants in `data.acl`, where there are any.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.errors import SpiffeIdError
from plantroom.wire.policy import Decision, Question
from plantroom.wire.spiffe import SpiffeId

_TRIES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The rule that would allow (empty: none was found), and what has to be so for it."""

    rule: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the point was told: changed, to see what would be, and put back."""

    registry: Mapping[str, Any]
    revocation: Mapping[str, Any]


def find(
    point: EmbeddedPoint, question: Question, known: Known, acl: Mapping[str, Any]
) -> Nearest | None:
    """Return what would have allowed a question, None when it is allowed."""
    try:
        return _Search(point, known, acl).run(question)
    finally:
        point.update(registry=known.registry, revocation=known.revocation)


class _Search:
    def __init__(self, point: EmbeddedPoint, known: Known, acl: Mapping[str, Any]) -> None:
        self._point, self._acl = point, acl
        self._devices = {name: dict(entry) for name, entry in known.registry["devices"].items()}
        self._missing: list[str] = []

    def run(self, question: Question) -> Nearest | None:
        decision = self._point.now(question)
        if decision.allow:
            return None
        if decision.reason in {"revoked", "no-revocation-data"}:
            self._missing.append(f"not being revoked ({decision.reason})")
            nothing = {"generation": 0, "spiffe_ids": {}, "serials": {}}
            self._point.update(revocation=nothing)
        self._register(question)
        decision = self._point.now(question)
        if not decision.allow:
            decision = self._mended(question, decision)
        rule = decision.rule if decision.allow else ""
        return Nearest(rule=rule, missing=tuple(self._missing) or (decision.reason,))

    def _register(self, question: Question) -> None:
        """Give the asker the registration entry that its SPIFFE ID stands for."""
        wanted = self._entry(question.spiffe_id)
        known = self._devices.get(question.spiffe_id)
        if wanted is None or known == wanted:
            return
        self._devices[question.spiffe_id] = wanted
        self._point.update(registry={"devices": self._devices})
        if known is None:
            self._missing.append(f"a registration entry (role {wanted['role']})")
            return
        changes = ", ".join(
            f"{name} {value!r} instead of {known.get(name)!r}"
            for name, value in wanted.items()
            if known.get(name) != value
        )
        self._missing.append(f"a registration entry with {changes}")

    def _entry(self, spiffe_id: str) -> dict[str, str] | None:
        """Return an entry with the first role under which this ID may connect."""
        try:
            who = SpiffeId.parse(spiffe_id)
        except SpiffeIdError:
            return None
        connect = Question(
            spiffe_id=spiffe_id, cert_serial="0", client_id=who.name, action="connect"
        )
        for role in (self._devices.get(spiffe_id, {}).get("role", ""), *self._roles()):
            for site in (who.site, "cloud", who.name):
                entry = {"role": role, "site": site, "device": who.name, "status": "active"}
                self._point.update(registry={"devices": {spiffe_id: entry}})
                if role and self._point.now(connect).allow:
                    self._point.update(registry={"devices": self._devices})
                    return entry
        self._point.update(registry={"devices": self._devices})
        return None

    def _roles(self) -> Mapping[str, Any]:
        roles: Mapping[str, Any] = self._acl.get("roles", {})
        return roles

    def _mended(self, question: Question, decision: Decision) -> Decision:
        """Put the question itself right, by as little as possible."""
        for missing, other in self._candidates(question):
            found = self._point.now(other)
            if found.allow:
                self._missing.append(missing)
                return found
        self._missing.append(f"no rule for this ({decision.reason})")
        return decision

    def _candidates(self, question: Question) -> Iterator[tuple[str, Question]]:
        name = question.spiffe_id.rpartition("/")[2]
        if question.client_id != name:
            yield f"the client id {name!r}", replace(question, client_id=name)
        if question.retain:
            yield "no RETAIN: this topic may not be retained", replace(question, retain=False)
        if not question.cert_serial:
            yield "a certificate's serial", replace(question, cert_serial="0")
        for topic, grant in self._topics(question):
            text = f"the topic {topic} instead of {question.topic} (granted: {grant})"
            yield text, replace(question, topic=topic)
            if question.retain:
                yield text + ", without RETAIN", replace(question, topic=topic, retain=False)

    def _topics(self, question: Question) -> list[tuple[str, str]]:
        """Return what this role's grants would let it name instead, the most alike first."""
        entry = self._devices.get(question.spiffe_id, {})
        grants = self._roles().get(entry.get("role", ""), {})
        action = "subscribe" if question.action == "subscribe" else "publish"
        who = SpiffeId.parse(question.spiffe_id) if entry else None
        asked = question.topic.split("/")
        found: list[tuple[tuple[int, int], str, str]] = []
        for grant in grants.get(action, ()):
            template = str(grant["topic"])
            topic = _filled(template, asked, entry, who, wild=action == "subscribe")
            found.append((_distance(topic.split("/"), asked), topic, template))
        return [(topic, template) for _, topic, template in sorted(found)[:_TRIES_MAX]]


def _filled(
    template: str, asked: list[str], entry: Mapping[str, str], who: SpiffeId | None, *, wild: bool
) -> str:
    """Fill a grant in with the asker's own names, and for the rest with what was asked."""
    own = {
        "{site}": entry.get("site", ""),
        "{name}": entry.get("device", ""),
        "{domain}": entry.get("site", ""),
    }
    if who is not None:
        own["{self}"] = who.level(
            cloud_trust_domain=who.trust_domain if entry.get("site") == "cloud" else ""
        )
    levels = []
    for number, level in enumerate(template.split("/")):
        given = asked[number] if number < len(asked) else "x"
        plain = given not in {"+", "#", ""} and not given.startswith("$")
        if level in own:
            levels.append(own[level])
        elif level == "+":
            levels.append(given if plain or (wild and given == "+") else "+" if wild else "x")
        elif level == "#":
            levels += asked[number:] or ["x"]
        elif level == "{cloud}":
            levels.append(given if given.startswith("cloud:") else "smart-building.cloud")
        elif level == "{building}":
            levels.append(given if plain and not given.startswith("cloud") else "x")
        else:
            levels.append(level)
    return "/".join(levels)


def _distance(one: list[str], other: list[str]) -> tuple[int, int]:
    """Say how unlike two topics are: by how late they part, then by the levels that differ."""
    alike = [a == b for a, b in zip(one, other, strict=False)]
    same_so_far = alike.index(False) if False in alike else len(alike)
    return -same_so_far, max(len(one), len(other)) - sum(alike)
