"""The guard: identity and policy, asked before anything is acknowledged.

Answers are kept with the connection that they were given to: a session that is resumed by another
connection starts with none. An answer is asked for again when the decision point's generation has
changed or its time is over. A question that cannot be answered at once raises `UndecidedError`: the
connection stops reading, `settle` waits for the answers, and the packet is looked at again.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from plantroom.wire.clock import Clock
from plantroom.wire.identity import Principal
from plantroom.wire.policy import Action, Decision, DecisionPoint, Question
from plantroom.wire.spiffe import SpiffeId

ANSWERS_MAX = 4096
DECIDE_TIMEOUT_S = 10.0
_US = 1_000_000
_NEVER_US = 1 << 62
ANONYMOUS = "anonymous"
ALLOWED = Decision(
    allow=True, reason="no-policy", ttl_s=3600, revision="", decision_id="", source="none"
)

_TIMEOUT = Decision(
    allow=False, reason="policy-timeout", ttl_s=0, revision="", decision_id="", source="guard"
)


class Ask(NamedTuple):
    """What a question is about, without who asks."""

    action: Action
    topic: str = ""
    qos: int = 0
    retain: bool = False


class UndecidedError(Exception):
    """These have to be decided before the packet can be handled."""

    def __init__(self, asks: Iterable[Ask]) -> None:
        super().__init__()
        self.asks = tuple(asks)


@dataclass(frozen=True, slots=True)
class _Answer:
    decision: Decision
    generation: int
    until_us: int


@dataclass(eq=False, slots=True)
class Peer:
    """Who is at the other end of one connection, and what was decided about it."""

    principal: Principal | None
    address: str
    client_id: str = ""
    answers: dict[Ask, _Answer] = field(default_factory=dict)
    fresh: dict[Ask, Decision] = field(default_factory=dict)

    @property
    def spiffe_id(self) -> str:
        """The SPIFFE ID, as text."""
        return str(self.principal.spiffe_id) if self.principal else ANONYMOUS

    def expired(self, wall_us: int) -> bool:
        """Say whether its SVID's time is over."""
        return self.principal is not None and self.principal.not_after_s * _US <= wall_us


def absent(spiffe_id: str, client_id: str, serial: str) -> Peer:
    """Return who was at the other end of a connection that the broker remembers only."""
    principal = None
    if spiffe_id != ANONYMOUS:
        principal = Principal(spiffe_id=SpiffeId.parse(spiffe_id), serial=serial, not_after_s=0)
    return Peer(principal, "", client_id)


class Guard:
    """Asks the decision point and remembers what it said."""

    def __init__(self, decisions: DecisionPoint | None, clock: Clock) -> None:
        self._decisions = decisions
        self._clock = clock
        self.next_expiry_us = _NEVER_US

    @property
    def generation(self) -> int:
        """Rises when what was answered may be wrong now."""
        return self._decisions.generation if self._decisions else 0

    def ask(self, peer: Peer, ask: Ask) -> Decision:
        """Return the decision; only `allow is True` allows.

        Raises:
            UndecidedError: when it is not known yet.
        """
        if self._decisions is None:
            return ALLOWED
        decision = peer.fresh.get(ask)
        if decision is not None:
            return decision
        now_us = self._clock.monotonic_us()
        answer = peer.answers.get(ask)
        generation = self._decisions.generation
        if answer and answer.generation == generation and now_us < answer.until_us:
            return answer.decision
        decision = self._decisions.now(_question(peer, ask))
        if decision is None:
            raise UndecidedError((ask,))
        self._keep(peer, ask, decision, generation, now_us)
        return decision

    def ask_all(self, peer: Peer, asks: Iterable[Ask]) -> list[Decision]:
        """Like `ask` for several; what is not known is raised together."""
        decisions: list[Decision] = []
        unknown: list[Ask] = []
        for ask in asks:
            try:
                decisions.append(self.ask(peer, ask))
            except UndecidedError:
                unknown.append(ask)
        if unknown:
            raise UndecidedError(unknown)
        return decisions

    async def settle(self, peer: Peer, asks: Iterable[Ask]) -> None:
        """Wait for answers; they hold for the packet that asked, and for their time after it."""
        for ask in asks:
            peer.fresh[ask] = await self.settle_one(peer, ask)

    async def settle_one(self, peer: Peer, ask: Ask) -> Decision:
        """Wait for one answer; none in time is a denial."""
        if self._decisions is None:
            return ALLOWED
        generation = self._decisions.generation
        try:
            async with asyncio.timeout(DECIDE_TIMEOUT_S):
                decision = await self._decisions.decide(_question(peer, ask))
        except TimeoutError:
            return _TIMEOUT
        self._keep(peer, ask, decision, generation, self._clock.monotonic_us())
        return decision

    def _keep(self, peer: Peer, ask: Ask, decision: Decision, generation: int, now_us: int) -> None:
        until_us = now_us + int(decision.ttl_s * _US)
        if until_us <= now_us:
            return  # a failure is not remembered
        if len(peer.answers) >= ANSWERS_MAX:
            peer.answers.clear()
        peer.answers[ask] = _Answer(decision, generation, until_us)
        self.next_expiry_us = min(self.next_expiry_us, until_us)

    def expire(self) -> bool:
        """Say whether an answer's time is over: then every route has to be looked at again."""
        if self._clock.monotonic_us() < self.next_expiry_us:
            return False
        self.next_expiry_us = _NEVER_US
        return True


def _question(peer: Peer, ask: Ask) -> Question:
    return Question(
        spiffe_id=peer.spiffe_id,
        cert_serial=peer.principal.serial if peer.principal else "",
        client_id=peer.client_id,
        action=ask.action,
        topic=ask.topic,
        qos=ask.qos,
        retain=ask.retain,
    )


def explain(decision: Decision) -> str:
    """Say why something was denied, with the id under which the decision is on record."""
    return f"{decision.reason} (decision {decision.decision_id})"
