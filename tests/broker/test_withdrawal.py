"""A right that is withdrawn takes with it what waits for its client, and nothing else."""

import asyncio

import pytest

from plantroom.broker.memory import MemorySink
from plantroom.broker.settings import BrokerLimits
from plantroom.wire.link import Message
from plantroom.wire.policy import Question
from tests.broker.harness import DISCONNECT, Live, Rules, puback, running, until

LIMITS = BrokerLimits(sys_interval_s=0.0, inflight_max=2)


def no_secrets(question: Question) -> bool:
    return question.action == "subscribe" and question.topic == "secret/#"


async def publish(live: Live, *topics: str) -> None:
    for topic in topics:
        message = Message(topic=topic, payload=b"x", qos=1)
        assert await live.broker.publish(message, publisher="me") == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_session_that_was_away_gets_what_it_may_still_have(restarted: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        sink, rules = MemorySink(), Rules()
        async with running(sink=sink, decisions=rules) as live:
            raw = await live.client("r", clean=False)
            await raw.subscribe(("secret/#", 1), ("open/#", 1))
            raw.send(DISCONNECT)
            assert await raw.closed()
            await publish(live, "open/1", "secret/1", "secret/2", "open/2", "secret/3")
            rules.change(no_secrets)
            if not restarted:
                await reads(live, "open/1", "open/2")
        if restarted:
            async with running(sink=sink, decisions=rules) as live:
                await reads(live, "open/1", "open/2")

    async def reads(live: Live, *topics: str) -> None:
        raw = await live.client("r", clean=False)
        for topic in topics:
            first, body = await raw.frame()
            assert (first, body[2 : 2 + len(topic)]) == (0x32, topic.encode())
            raw.send(puback(int.from_bytes(body[2 + len(topic) : 4 + len(topic)], "big")))
        assert await raw.silent()
        raw.send(DISCONNECT)
        assert await raw.closed()
        await until(lambda: not live.broker._engine.journal.log_bytes, "the log to be pruned")

    asyncio.run(scenario())


def test_what_waits_behind_the_window_of_a_connected_client_is_not_sent() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(limits=LIMITS, decisions=rules) as live:
            raw = await live.client("r")
            await raw.subscribe(("secret/#", 1), ("open/#", 1))
            await publish(live, "secret/1", "open/1", "secret/2", "open/2", "secret/3")
            numbers = [int.from_bytes(body[-3:-1], "big") for _, body in await raw.frames(2)]
            rules.change(no_secrets)
            (session,) = live.broker._engine.clients
            await until(lambda: "secret/#" not in session.subscriptions)
            raw.send(*map(puback, numbers))
            first, body = await raw.frame()
            assert (first, body[2:8]) == (0x32, b"open/2")
            raw.send(puback(int.from_bytes(body[8:10], "big")))
            assert await raw.silent()
            await publish(live, "secret/4", "open/3")
            assert (await raw.frame())[1][2:8] == b"open/3"

    asyncio.run(scenario())


def test_other_subscriptions_still_bring_what_one_of_them_brought() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            raw = await live.client("r", clean=False)
            await raw.subscribe(("secret/#", 1), ("+/1", 1))
            raw.send(DISCONNECT)
            assert await raw.closed()
            await publish(live, "secret/1", "secret/2")
            rules.change(no_secrets)
            raw = await live.client("r", clean=False)
            assert (await raw.frame())[1][2:10] == b"secret/1"
            assert await raw.silent()

    asyncio.run(scenario())
