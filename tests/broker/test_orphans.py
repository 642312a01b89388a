"""A member of a shared subscription goes for good: another gets what it has left."""

import asyncio

import pytest

from plantroom.broker.properties import Property
from tests.broker.harness import DISCONNECT, Live, Raw, puback, publish, running


async def member(live: Live, name: str, qos: int, *own: tuple[str, int]) -> Raw:
    raw = await live.client(name, version=5, properties={Property.RECEIVE_MAXIMUM: 3})
    await raw.subscribe(("$share/g/a", qos), *own)
    return raw


async def leave(raw: Raw, how: str) -> None:
    if how == "goodbye":
        raw.send(DISCONNECT)
        assert await raw.closed()
    else:
        raw.cut()


async def payloads(raw: Raw, count: int) -> list[bytes]:
    frames = await raw.frames(count)
    assert not any(first & 8 for first, _ in frames), "never sent to this one before"
    return [body[-1:] for _, body in frames]


@pytest.mark.parametrize("how", ["goodbye", "cut"])
@pytest.mark.parametrize(("qos", "left"), [(1, [b"1", b"2", b"3"]), (2, [b"3"])])
def test_another_member_gets_what_was_left(qos: int, left: list[bytes], how: str) -> None:
    # 4.8.2; of QoS 2 not what was sent [MQTT-4.8.2-5]
    async def scenario() -> None:
        async with running() as live:
            first, writer = await member(live, "1", qos), await live.client("w")
            writer.send(*(publish("a", b"%d" % n, qos=qos, packet_id=n + 1) for n in range(4)))
            await writer.frames(4)
            assert await payloads(first, 3) == [b"0", b"1", b"2"]
            if qos == 1:
                first.send(puback(1))
                assert await payloads(first, 1) == [b"3"]
            second = await member(live, "2", qos)
            await leave(first, how)
            assert await payloads(second, len(left)) == left
            assert await second.silent()

    asyncio.run(scenario())


def test_what_came_by_a_subscription_of_its_own_goes_to_nobody() -> None:
    async def scenario() -> None:
        async with running() as live:
            first, writer = await member(live, "1", 1, ("a", 1), ("b", 1)), await live.client("w")
            writer.send(*(publish(topic, packet_id=n) for n, topic in ((1, "b"), (2, "a"))))
            await writer.frames(2)
            second = await member(live, "2", 1)
            await first.frames(3)  # b, and a twice
            await leave(first, "goodbye")
            assert (await second.frame())[1][2:3] == b"a"
            assert await second.silent()

    asyncio.run(scenario())


def test_nobody_is_left_to_get_it() -> None:
    async def scenario() -> None:
        async with running() as live:
            first, writer = await member(live, "1", 1), await live.client("w")
            writer.publish("a")
            await writer.acknowledged()
            assert await payloads(first, 1) == [b"x"]
            await leave(first, "goodbye")
            second = await member(live, "2", 1)
            assert await second.silent()

    asyncio.run(scenario())
