"""SUBSCRIBE and UNSUBSCRIBE, seen from the wire."""

import asyncio
from collections.abc import Callable

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from tests.broker.harness import Rules, running, subscribe, unsubscribe

BOTH = pytest.mark.parametrize("version", [4, 5])


@BOTH
def test_denied_subscription_is_told_and_others_are_granted(version: int) -> None:
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "secret/#")
        async with running(decisions=rules) as live:
            raw = await live.client("r", version=version)
            codes = await raw.subscribe(("secret/#", 1), ("open/#", 1))
            assert codes == bytes((Code.NOT_AUTHORIZED if version == 5 else 0x80, 1))

    asyncio.run(scenario())


def test_invalid_filter_is_refused_by_its_own_code() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=5)
            codes = await raw.subscribe(("a/#/b", 1), ("a+", 1), ("fine", 1))
            assert codes == bytes((Code.TOPIC_FILTER_INVALID, Code.TOPIC_FILTER_INVALID, 1))

    asyncio.run(scenario())


@BOTH
def test_unsubscribe_stops_the_messages(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=version)
            await raw.subscribe(("a", 1))
            raw.send(unsubscribe(["a", "never"], packet_id=4, version=version))
            first, body = await raw.frame()
            assert first == 0xB0
            assert body == (b"\0\4" if version == 4 else b"\0\4\0\0\x11")
            raw.publish("a")
            await raw.acknowledged()
            assert await raw.silent()

    asyncio.run(scenario())


def test_subscriptions_have_a_limit() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(session_subscriptions_max=2, sys_interval_s=0.0)
        async with running(limits=limits) as live:
            raw = await live.client("r", version=5)
            codes = await raw.subscribe(("a", 0), ("b", 0), ("c", 0), ("a", 1))
            assert codes == bytes((0, 0, Code.QUOTA_EXCEEDED, 1))

    asyncio.run(scenario())


@BOTH
@pytest.mark.parametrize(
    "make",
    [
        lambda v: subscribe(("a", 0), ("", 0), version=v),
        lambda v: unsubscribe(["a", ""], version=v),
    ],
)
def test_empty_filter_is_no_filter(make: Callable[[int], bytes], version: int) -> None:
    # [MQTT-4.7.3-1], 3.1.1 [MQTT-4.8.0-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=version)
            raw.send(make(version))
            if version == 5:
                first, body = await raw.frame()
                assert (first, body[0]) == (0xE0, Code.MALFORMED_PACKET)
            assert await raw.closed()

    asyncio.run(scenario())


@pytest.mark.parametrize("leave", [False, True])
def test_answer_that_is_too_large_for_the_client_is_not_sent(leave: bool) -> None:  # noqa: FBT001
    # [MQTT-3.1.2-24]
    async def scenario() -> None:
        async with running() as live:
            properties = {Property.MAXIMUM_PACKET_SIZE: 30}
            raw = await live.client("r", version=5, properties=properties)
            assert await raw.subscribe(*((f"{number}", 0) for number in range(25))) == bytes(25)
            names = [f"{number}" for number in range(26)]
            if leave:
                raw.send(unsubscribe(names, version=5))
            else:
                raw.send(subscribe(*((name, 0) for name in names), version=5))
            assert await raw.frame() == (0xE0, bytes((Code.PACKET_TOO_LARGE,)))
            assert await raw.closed()

    asyncio.run(scenario())
