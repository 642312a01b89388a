"""What the broker does with each packet, seen from the wire."""

import asyncio
import logging
from typing import Any

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.memory import MemorySink
from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from tests.broker.harness import (
    Rules,
    packet,
    publish,
    running,
    subscribe,
    text,
)

BOTH = pytest.mark.parametrize("version", [4, 5])


@BOTH
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivered_qos_is_the_lower_of_the_two(version: int, published: int, granted: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("reader", version=version)
            assert await reader.subscribe(("a/+", granted)) == bytes((granted,))
            writer = await live.client("writer", version=version)
            writer.publish("a/b", b"hello", qos=published, packet_id=9)
            first, body = await reader.frame()
            assert first == 0x30 | min(published, granted) << 1
            assert body.startswith(text("a/b"))
            assert body.endswith(b"hello")

    asyncio.run(scenario())


@BOTH
def test_qos_2_comes_once_however_often_it_is_sent(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("reader", version=version)
            await reader.subscribe(("a", 2))
            writer = await live.client("writer", version=version)
            writer.publish("a", b"1", qos=2, packet_id=5)
            writer.publish("a", b"1", qos=2, packet_id=5, dup=True)
            assert await writer.frames(2) == [(0x50, b"\0\5")] * 2
            writer.send(b"\x62\x02\0\5")
            assert await writer.frame() == (0x70, b"\0\5")
            writer.publish("a", b"2", qos=2, packet_id=5)  # the id is free again
            assert await writer.frame() == (0x50, b"\0\5")
            frames = await reader.frames(2)
            assert [body[-1:] for _, body in frames] == [b"1", b"2"]
            reader.send(b"\x50\x02\0\1")
            assert await reader.frame() == (0x62, b"\0\1")
            reader.send(b"\x70\x02\0\1")
            assert await reader.silent()

    asyncio.run(scenario())


@BOTH
def test_messages_of_one_qos_keep_their_order_across_fast_and_plain_path(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("reader", version=version)
            await reader.subscribe(("a", 1))
            writer = await live.client("writer", version=version)
            sent = []
            for number in range(1, 60):
                qos = number % 3 if number % 3 < 2 else 1
                dup = number % 5 == 0 and qos == 1
                sent.append(
                    publish(
                        "a", b"%d" % number, qos=qos, packet_id=number, dup=dup, version=version
                    )
                )
            writer.send(*sent)
            got: dict[int, list[int]] = {0: [], 1: []}
            for _ in sent:
                first, body = await reader.frame()
                assert not first & 8, "DUP is not passed on"
                qos = first >> 1 & 3
                got[qos].append(int(body[3 + 2 * qos + (version == 5) :]))
            assert got[0] == [n for n in range(1, 60) if n % 3 == 0]  # 4.6: of one QoS
            assert got[1] == [n for n in range(1, 60) if n % 3]

    asyncio.run(scenario())


@BOTH
def test_puback_comes_for_every_publish_in_order(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("w", version=version)
            order = [7, 3, 65_535, 1, 2]
            raw.send(*(publish("t", packet_id=n, version=version) for n in order))
            frames = await raw.frames(len(order))
            assert frames == [(0x40, n.to_bytes(2, "big")) for n in order]

    asyncio.run(scenario())


@BOTH
def test_retained_message_is_sent_with_retain_and_removed_by_an_empty_one(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            writer = await live.client("writer", version=version)
            reader = await live.client("reader", version=version)
            await reader.subscribe(("r/#", 1))
            writer.publish("r/1", b"on", retain=True)
            await writer.acknowledged()
            assert (await reader.frame())[0] == 0x32  # live: RETAIN is not set
            late = await live.client("late", version=version)
            await late.subscribe(("r/+", 0))
            first, body = await late.frame()
            assert first == 0x31
            assert body.endswith(b"on")
            writer.publish("r/1", b"", retain=True, packet_id=2)
            await writer.acknowledged(2)
            assert (await late.frame())[0] == 0x30  # delivered as usual, and then gone
            last = await live.client("last", version=version)
            await last.subscribe(("r/+", 0))
            assert await last.silent()

    asyncio.run(scenario())


def test_subscriber_sees_the_retained_value_before_what_comes_after() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("both")
            raw.send(
                publish("r", b"old", retain=True, packet_id=1),
                subscribe(("r", 1), packet_id=2),
                publish("r", b"new", retain=True, packet_id=3),
            )
            frames = await raw.frames(5)
            values = [body[-3:] for first, body in frames if first >> 4 == 3]
            assert values == [b"old", b"new"]

    asyncio.run(scenario())


@BOTH
def test_dollar_topics_are_refused_without_hurting_the_connection(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=version)
            await raw.subscribe(("$SYS/#", 0))
            raw.publish("$SYS/broker/uptime", b"lies", packet_id=3)
            first, body = await raw.frame()
            assert (first, body[:2]) == (0x40, b"\0\3")
            if version == 5:
                assert body[2] == Code.TOPIC_NAME_INVALID
            assert await raw.silent()

    asyncio.run(scenario())


def test_denied_publish_of_mqtt_5_gets_code_and_decision(caplog: Any) -> None:
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "forbidden")
        sink = MemorySink()
        async with running(decisions=rules, sink=sink, taps=("#",)) as live:
            raw = await live.client("r", version=5)
            raw.send(
                publish("allowed", packet_id=1, version=5),
                publish("forbidden", packet_id=2, version=5),
                publish("allowed", packet_id=3, version=5),
            )
            frames = await raw.frames(3)
            assert frames[0] == (0x40, b"\0\1")
            assert frames[1][1][:3] == b"\0\2" + bytes((Code.NOT_AUTHORIZED,))
            assert b"not-yours (decision d" in frames[1][1]
            assert frames[2] == (0x40, b"\0\3")
            stored = b"".join(data for _, data in sink.segments.values())
            assert stored.count(b"allowed") == 2
            assert b"forbidden" not in stored

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    denied = [r.getMessage() for r in caplog.records if "publish-denied" in r.getMessage()]
    assert len(denied) == 1
    assert "topic=forbidden" in denied[0]
    assert "decision_id=d" in denied[0]


@pytest.mark.parametrize("qos", [1, 2])
def test_denied_publish_of_mqtt_3_closes_the_connection(qos: int) -> None:
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "forbidden")
        async with running(decisions=rules) as live:
            raw = await live.client("r")
            raw.publish("forbidden", qos=0)
            assert await raw.silent()
            raw.publish("forbidden", qos=qos)
            assert await raw.closed()

    asyncio.run(scenario())


@BOTH
def test_ping_is_answered_behind_all_that_was_asked_for_before_it(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=version)
            raw.publish("a/kept", retain=True, packet_id=1)
            await raw.acknowledged(1)
            raw.send(
                subscribe(("a/#", 1), packet_id=2, version=version),
                publish("a/1", packet_id=3, version=version),
                publish("a/2", packet_id=4, qos=2, version=version),
                b"\xc0\0",
            )
            seen = [first & 0xF0 for first, _ in await raw.frames(7)]
            assert sorted(seen[:-1]) == [0x30, 0x30, 0x30, 0x40, 0x50, 0x90]
            assert seen[-1] == 0xD0

    asyncio.run(scenario())


def test_ping_is_answered_behind_the_queue_of_a_session_that_is_resumed() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1))
            reader.send(b"\xe0\0")
            assert await reader.closed()
            writer = await live.client("w")
            for number in range(3):
                writer.publish("a", packet_id=number + 1)
                await writer.acknowledged(number + 1)
            reader = await live.client("r", clean=False)
            reader.send(b"\xc0\0")
            assert [first for first, _ in await reader.frames(4)] == [0x32, 0x32, 0x32, 0xD0]

    asyncio.run(scenario())


@BOTH
def test_what_came_before_a_goodbye_is_answered(version: int) -> None:
    async def scenario() -> None:
        async with running() as live:
            watcher = await live.client("w", version=version)
            await watcher.subscribe(("a", 1))
            raw = await live.client("r", version=version, will=("a", b"will", 0, False))
            raw.send(
                subscribe(("b", 1), version=version),
                publish("a", packet_id=7, version=version),
                b"\xe0\0",
                publish("a", b"too late", packet_id=8, version=version),
            )
            assert sorted(first for first, _ in await raw.frames(2)) == [0x40, 0x90]
            assert await raw.closed()
            assert (await watcher.frame())[0] == 0x32
            assert await watcher.silent()

    asyncio.run(scenario())


def test_pubrec_that_is_unknown_is_released_unless_it_is_an_error() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=5)
            raw.send(b"\x50\3\0\7\x80", b"\x50\2\0\x08")
            assert await raw.frame() == (0x62, b"\0\x08\x92")
            assert await raw.silent()

    asyncio.run(scenario())


def test_what_a_former_connection_left_open_does_not_count_against_the_receive_maximum() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(receive_maximum=2, sys_interval_s=0.0)
        properties = {Property.SESSION_EXPIRY: 100}
        async with running(limits=limits) as live:
            raw = await live.client("r", version=5, properties=properties)
            for number in (1, 2):
                raw.publish("a", qos=2, packet_id=number)
                assert await raw.frame() == (0x50, number.to_bytes(2, "big"))
            raw.cut()
            raw = await live.client("r", version=5, clean=False, properties=properties)
            raw.publish("a", packet_id=3)
            await raw.acknowledged(3)
            raw.send(b"\x62\2\0\1")
            assert await raw.frame() == (0x70, b"\0\1")
            for number in (4, 5):
                raw.publish("a", qos=2, packet_id=number)
                assert await raw.frame() == (0x50, number.to_bytes(2, "big"))
            raw.publish("a", qos=2, packet_id=6)
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.RECEIVE_MAXIMUM_EXCEEDED)

    asyncio.run(scenario())


def test_auth_is_a_protocol_error() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("r", version=5)
            raw.send(packet(0xF0, b""))
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.PROTOCOL_ERROR)

    asyncio.run(scenario())


def test_retained_messages_have_a_limit() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(retained_max=1, sys_interval_s=0.0)
        async with running(limits=limits) as live:
            raw = await live.client("r", version=5)
            raw.publish("a", retain=True, packet_id=1)
            await raw.acknowledged(1)
            raw.publish("b", retain=True, packet_id=2)
            assert (await raw.frame())[1][:3] == b"\0\2" + bytes((Code.QUOTA_EXCEEDED,))
            raw.publish("a", b"", retain=True, packet_id=3)
            await raw.acknowledged(3)

    asyncio.run(scenario())
