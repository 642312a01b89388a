import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from plantroom.policies.cached import CachedPoint
from plantroom.wire.policy import Decision, Question

Ask = Callable[..., Question]


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_us(self) -> int:
        raise AssertionError("the cache must not depend on wall time")

    def monotonic_us(self) -> int:
        return int(self.now_s * 1_000_000)


class Inner:
    """A decision point that counts how often it was asked."""

    def __init__(self) -> None:
        self.generation = 1
        self.asked = 0
        self.ready = True
        self.answer = Decision(
            allow=True, reason="ok", ttl_s=300.0, revision="r", decision_id="", source="inner"
        )
        self.while_deciding: Callable[[], None] = lambda: None
        self.listeners: list[Callable[[], None]] = []

    def now(self, question: Question) -> Decision | None:
        assert question.action
        return self._answer() if self.ready else None

    async def decide(self, question: Question) -> Decision:
        assert question.action
        answer = self._answer()
        await asyncio.sleep(0)
        self.while_deciding()
        return answer

    def on_change(self, callback: Callable[[], None]) -> None:
        self.listeners.append(callback)

    def _answer(self) -> Decision:
        self.asked += 1
        return replace(self.answer, decision_id=f"d{self.asked}")


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def cache(inner: Inner, clock: Hand) -> CachedPoint:
    return CachedPoint(inner, clock)


def test_the_same_question_is_asked_once(cache: CachedPoint, inner: Inner, ask: Ask) -> None:
    first, second = cache.now(ask()), cache.now(ask())
    assert first is not None
    assert second is not None
    assert (first.source, second.source) == ("inner", "cached")
    assert first.decision_id == second.decision_id
    assert (inner.asked, cache.hits, cache.misses) == (1, 1, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"spiffe_id": "spiffe://b.x/agent/a"},
        {"cert_serial": "0b"},
        {"client_id": "x"},
        {"action": "subscribe"},
        {"topic": "v1/x"},
        {"qos": 0},
        {"retain": True},
    ],
)
def test_every_field_counts(
    cache: CachedPoint, inner: Inner, ask: Ask, other: dict[str, object]
) -> None:
    cache.now(ask())
    cache.now(ask(**other))
    assert inner.asked == 2


@pytest.mark.parametrize(
    ("reason", "own_s", "kept_s"),
    [
        *(("ok", 300.0, 300.0), ("ok", 20.0, 20.0), ("ok", 9e9, 300.0)),
        *(("revoked", 15.0, 15.0), ("revoked", 300.0, 15.0), ("revoked", 2.0, 2.0)),
    ],
)
def test_an_answer_lives_as_long_as_the_strictest_says(
    ask: Ask, reason: str, own_s: float, kept_s: float
) -> None:
    inner, clock = Inner(), Hand()
    cache = CachedPoint(inner, clock)
    inner.answer = replace(inner.answer, allow=reason == "ok", reason=reason, ttl_s=own_s)
    cache.now(ask())
    clock.now_s = kept_s - 0.001
    cache.now(ask())
    assert inner.asked == 1
    clock.now_s = kept_s  # reading has not prolonged it
    cache.now(ask())
    assert inner.asked == 2


def test_a_setting_may_shorten_but_not_prolong(inner: Inner, clock: Hand, ask: Ask) -> None:
    short, long = (CachedPoint(inner, clock, ttl_s_max=ttl_s) for ttl_s in (10.0, 9e9))
    inner.answer = replace(inner.answer, ttl_s=9e9)
    short.now(ask())
    long.now(ask())
    clock.now_s = 10.0
    short.now(ask())
    assert inner.asked == 3
    clock.now_s = 300.0
    long.now(ask())
    assert inner.asked == 4


def test_no_answer_outlives_the_certificate(inner: Inner, clock: Hand, ask: Ask) -> None:
    cache = CachedPoint(inner, clock, life_s=lambda _: 5.0 - clock.now_s)
    cache.now(ask())
    clock.now_s = 5.0
    cache.now(ask())
    cache.now(ask())
    assert inner.asked == 3, "the second answer had no life left to be kept for"


def test_a_change_takes_effect_at_once(cache: CachedPoint, inner: Inner, ask: Ask) -> None:
    cache.now(ask())
    inner.generation = 2
    inner.answer = replace(inner.answer, allow=False, reason="revoked", ttl_s=15.0)
    decision = cache.now(ask())
    assert decision is not None
    assert decision.reason == "revoked"
    assert cache.generation == 2


def test_an_answer_that_a_change_has_overtaken_is_not_kept(
    cache: CachedPoint, inner: Inner, ask: Ask
) -> None:
    def change() -> None:
        inner.generation += 1

    inner.while_deciding = change
    asyncio.run(cache.decide(ask()))
    inner.while_deciding = lambda: None
    asyncio.run(cache.decide(ask()))
    assert inner.asked == 2


def test_a_fault_is_not_kept(cache: CachedPoint, inner: Inner, ask: Ask) -> None:
    inner.answer = replace(inner.answer, allow=False, reason="engine-fault", ttl_s=0.0)
    cache.now(ask())
    cache.now(ask())
    assert (inner.asked, len(cache)) == (2, 0)


def test_the_least_recently_used_goes_first(inner: Inner, clock: Hand, ask: Ask) -> None:
    cache = CachedPoint(inner, clock, entries_max=2)
    for topic in ("a", "b", "a", "c"):  # c drives out b
        cache.now(ask(topic=topic))
    assert (inner.asked, len(cache)) == (3, 2)
    cache.now(ask(topic="a"))
    assert inner.asked == 3
    cache.now(ask(topic="b"))
    assert inner.asked == 4


def test_what_needs_waiting_is_kept_after_the_wait(
    cache: CachedPoint, inner: Inner, ask: Ask
) -> None:
    inner.ready = False
    assert cache.now(ask()) is None
    assert asyncio.run(cache.decide(ask())).source == "inner"
    kept = cache.now(ask())
    assert kept is not None
    assert kept.source == "cached"
    assert asyncio.run(cache.decide(ask())).source == "cached"


def test_changes_are_told_by_the_inner_point(cache: CachedPoint, inner: Inner) -> None:
    cache.on_change(lambda: None)
    assert len(inner.listeners) == 1
