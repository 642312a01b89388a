"""What only MQTT 5 has: aliases, expiry, flow control, shared subscriptions, retain handling."""

import asyncio
from typing import Any

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from tests.broker.harness import (
    DISCONNECT,
    Frame,
    puback,
    publish,
    running,
    text,
)


@pytest.mark.parametrize(("handling", "first_time", "again"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling(handling: int, first_time: int, again: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=5)
            raw.publish("r", b"v", retain=True)
            await raw.acknowledged()
            for expected in (first_time, again):
                await raw.subscribe(("r", handling << 4))
                if expected:
                    assert (await raw.frame())[0] == 0x31
                assert await raw.silent()

    asyncio.run(scenario())


def test_retain_as_published_and_no_local() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("own", version=5)
            await raw.subscribe(("a", 1 | 8), ("b", 1 | 4))
            other = await live.client("other", version=5)
            other.publish("a", b"x", retain=True)
            assert (await raw.frame())[0] == 0x33
            raw.publish("b", b"mine")
            await raw.acknowledged()
            assert await raw.silent()
            other.publish("b", b"theirs", packet_id=2)
            assert (await raw.frame())[1].endswith(b"theirs")

    asyncio.run(scenario())


def test_overlapping_subscriptions_give_one_copy_with_all_identifiers() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("s", version=5)
            await raw.subscribe(("a/#", 0), properties={Property.SUBSCRIPTION_ID: 7})
            await raw.subscribe(("a/+", 1), properties={Property.SUBSCRIPTION_ID: 300})
            raw.publish("a/b", b"x")
            frames = await raw.frames(2)
            (body,) = [body for first, body in frames if first == 0x32]
            assert b"\x0b\x07\x0b\xac\x02" in body
            assert await raw.silent()

    asyncio.run(scenario())


def test_shared_subscription_gives_each_message_to_one_member() -> None:
    async def scenario() -> None:
        async with running() as live:
            members = [await live.client(f"m{n}", version=5) for n in range(2)]
            for member in members:
                await member.subscribe(("$share/g/a/#", 1))
            writer = await live.client("w", version=5)
            for number in range(1, 11):
                writer.publish("a/b", b"%d" % number, packet_id=number)
                await writer.acknowledged(number)
            counts = []
            for member in members:
                count = 0
                member.send(b"\xc0\0")
                while (await member.frame())[0] != 0xD0:
                    count += 1
                counts.append(count)
            assert counts == [5, 5]

    asyncio.run(scenario())


def test_topic_alias_stands_for_its_topic() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("reader")
            await reader.subscribe(("long/topic", 1))
            raw = await live.client("a", version=5)
            raw.publish("long/topic", b"1", properties={Property.TOPIC_ALIAS: 2})
            raw.publish("", b"2", packet_id=2, properties={Property.TOPIC_ALIAS: 2})
            frames = await reader.frames(2)
            assert [body[-1:] for _, body in frames] == [b"1", b"2"]
            assert all(body.startswith(text("long/topic")) for _, body in frames)
            await raw.frames(2)
            raw.publish("", b"3", packet_id=3, properties={Property.TOPIC_ALIAS: 3})
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.PROTOCOL_ERROR)

    asyncio.run(scenario())


def test_message_expiry_counts_the_waiting_and_ends_it() -> None:
    async def scenario() -> None:
        async with running() as live:
            options: dict[str, Any] = {
                "version": 5,
                "clean": False,
                "properties": {Property.SESSION_EXPIRY: 1000},
            }
            reader = await live.client("reader", **options)
            await reader.subscribe(("a", 1))
            reader.send(DISCONNECT)
            assert await reader.closed()
            writer = await live.client("w", version=5)
            writer.publish("a", b"short", properties={Property.MESSAGE_EXPIRY: 5})
            writer.publish("a", b"long", packet_id=2, properties={Property.MESSAGE_EXPIRY: 100})
            await writer.frames(2)
            live.clock.jump(10)
            reader = await live.client("reader", **options)
            _, body = await reader.frame()
            assert body.endswith(b"long")
            left_s = int.from_bytes(body[7:11], "big")
            assert body[6] == Property.MESSAGE_EXPIRY
            assert left_s == 90
            assert await reader.silent()

    asyncio.run(scenario())


def test_receive_maximum_of_the_client_is_respected() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r", version=5, properties={Property.RECEIVE_MAXIMUM: 2})
            await reader.subscribe(("a", 1))
            writer = await live.client("w", version=5)
            writer.send(*(publish("a", packet_id=n, version=5) for n in range(1, 6)))
            await writer.frames(5)
            await reader.frames(2)
            assert await reader.silent()
            reader.send(puback(1))
            assert (await reader.frame())[0] == 0x32
            reader.send(puback(3), puback(2))
            await reader.frames(2)
            assert await reader.silent()

    asyncio.run(scenario())


def test_client_that_exceeds_our_receive_maximum_is_disconnected() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(receive_maximum=3, sys_interval_s=0.0)
        async with running(limits=limits) as live:
            raw = await live.client("w", version=5)
            raw.send(*(publish("a", packet_id=n, version=5) for n in range(1, 9)))
            frames: list[Frame] = []
            while not frames or frames[-1][0] != 0xE0:
                frames.append(await raw.frame())
            assert frames[-1][1][0] == Code.RECEIVE_MAXIMUM_EXCEEDED

    asyncio.run(scenario())


def test_maximum_packet_size_of_the_client_is_respected() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=5, properties={Property.MAXIMUM_PACKET_SIZE: 40})
            await raw.subscribe(("a", 1))
            raw.publish("a", b"x" * 100, packet_id=1)
            await raw.acknowledged(1)
            raw.publish("a", b"small", packet_id=2)
            frames = await raw.frames(2)
            assert {first for first, _ in frames} == {0x40, 0x32}
            assert await raw.silent()

    asyncio.run(scenario())
