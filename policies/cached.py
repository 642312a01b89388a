"""Answers kept for a while, in front of a decision point that takes longer."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from plantroom.policies.answer import TTL_S_MAX
from plantroom.wire.clock import Clock
from plantroom.wire.policy import Decision, DecisionPoint, Question

SOURCE = "cached"
ENTRIES_MAX = 20_000
DENIAL_TTL_S_MAX = 15.0


def _unlimited(_: Question) -> float:
    return TTL_S_MAX


class CachedPoint:
    """Keeps an answer for the shortest of its own TTL, `ttl_s_max` and the SVID's life.

    An answer is kept for one question with all its fields, and only while the inner point's
    generation stands: a change of policy, registry or revocations takes effect at once. Reading
    does not prolong an answer's life; a fault (TTL 0) is not kept; the least recently used goes.
    `life_s` tells how long the question's SVID is still valid, where the caller knows.
    """

    def __init__(
        self,
        inner: DecisionPoint,
        clock: Clock,
        *,
        entries_max: int = ENTRIES_MAX,
        ttl_s_max: float = TTL_S_MAX,
        life_s: Callable[[Question], float] = _unlimited,
    ) -> None:
        self._inner, self._clock = inner, clock
        self._entries_max, self._life_s = entries_max, life_s
        self._ttl_s_max = min(ttl_s_max, TTL_S_MAX)
        self._entries: OrderedDict[Question, tuple[int, Decision]] = OrderedDict()
        self._generation = inner.generation
        self.hits = 0
        self.misses = 0

    @property
    def generation(self) -> int:
        """The inner point's."""
        return self._inner.generation

    def __len__(self) -> int:
        return len(self._entries)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after every change of `generation`."""
        self._inner.on_change(callback)

    def now(self, question: Question) -> Decision | None:
        """Answer from what is kept, else from the inner point if that needs no waiting."""
        kept = self._kept(question)
        if kept is not None:
            return kept
        generation = self._generation
        decision = self._inner.now(question)
        if decision is not None:
            self._keep(question, decision, generation)
        return decision

    async def decide(self, question: Question) -> Decision:
        """Answer from what is kept, else from the inner point."""
        kept = self._kept(question)
        if kept is not None:
            return kept
        generation = self._generation
        decision = await self._inner.decide(question)
        self._keep(question, decision, generation)
        return decision

    def _kept(self, question: Question) -> Decision | None:
        if self._inner.generation != self._generation:
            self._entries.clear()
            self._generation = self._inner.generation
        entry = self._entries.get(question)
        if entry is None:
            self.misses += 1
            return None
        until_us, decision = entry
        if self._clock.monotonic_us() >= until_us:
            del self._entries[question]
            self.misses += 1
            return None
        self._entries.move_to_end(question)
        self.hits += 1
        return decision

    def _keep(self, question: Question, decision: Decision, generation: int) -> None:
        """Keep an answer that was asked for under `generation`, unless that has passed since."""
        most_s = self._ttl_s_max if decision.allow else DENIAL_TTL_S_MAX
        ttl_s = min(decision.ttl_s, most_s, self._ttl_s_max, self._life_s(question))
        if ttl_s <= 0 or self._inner.generation != generation:
            return
        until_us = self._clock.monotonic_us() + int(ttl_s * 1_000_000)
        self._entries[question] = (until_us, replace(decision, source=SOURCE))
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
