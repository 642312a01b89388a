import asyncio

import pytest

from plantroom.broker import guard as guard_module
from plantroom.broker.guard import ALLOWED, Ask, Guard, Peer, UndecidedError
from tests.broker.harness import JumpingClock, Rules

ASK = Ask("publish", "a", 1)


def test_answer_is_remembered_for_one_connection_until_its_time_is_over() -> None:
    rules, clock = Rules(), JumpingClock()
    guard = Guard(rules, clock)
    one, other = Peer(None, "1"), Peer(None, "2")
    guard.ask(one, ASK)
    guard.ask(one, ASK)
    assert len(rules.asked) == 1
    guard.ask(other, ASK)
    assert len(rules.asked) == 2
    assert not guard.expire()
    clock.jump(301)
    assert guard.expire()
    guard.ask(one, ASK)
    assert len(rules.asked) == 3


def test_new_generation_asks_again() -> None:
    rules = Rules()
    guard = Guard(rules, JumpingClock())
    peer = Peer(None, "1")
    guard.ask(peer, ASK)
    rules.generation += 1
    guard.ask(peer, ASK)
    assert len(rules.asked) == 2


def test_unknown_answers_are_named_together_and_settled() -> None:
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "a")
        rules.slow = True
        guard = Guard(rules, JumpingClock())
        peer = Peer(None, "1")
        asks = (ASK, Ask("subscribe", "b"))
        with pytest.raises(UndecidedError) as caught:
            guard.ask_all(peer, asks)
        assert caught.value.asks == asks
        await guard.settle(peer, caught.value.asks)
        assert [d.allow for d in guard.ask_all(peer, asks)] == [False, True]

    asyncio.run(scenario())


def test_no_answer_in_time_is_a_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        rules = Rules()
        rules.release.clear()
        decision = await Guard(rules, JumpingClock()).settle_one(Peer(None, "1"), ASK)
        assert decision.allow is False
        assert decision.reason == "policy-timeout"

    monkeypatch.setattr(guard_module, "DECIDE_TIMEOUT_S", 0.01)
    asyncio.run(scenario())


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "ANSWERS_MAX", 10)
    guard = Guard(Rules(), JumpingClock())
    peer = Peer(None, "1")
    for number in range(25):
        guard.ask(peer, Ask("publish", str(number)))
    assert len(peer.answers) <= 10


def test_without_a_decision_point_everything_is_allowed() -> None:
    assert Guard(None, JumpingClock()).ask(Peer(None, "1"), ASK) is ALLOWED
