"""What is demanded of a server that delivers: retained messages, properties, expiry, aliases.

Each test names the statements that it checks, as in `test_conformance`.
"""

import asyncio
from typing import Any

import pytest

from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from tests.broker.harness import puback, publish, running, text
from tests.broker.statements import BOTH, keeping, topic_of


@BOTH
def test_retained_messages(version: int) -> None:
    # [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT-3.3.1-8], [MQTT-3.3.1-9],
    # [MQTT-3.3.1-12], 3.1.1 [MQTT-3.3.1-8]
    async def scenario() -> None:
        async with running() as live:
            writer = await live.client("w", version=version)
            present = await live.client("present", version=version)
            await present.subscribe(("r", 2))
            for payload, qos in ((b"1", 1), (b"2", 0), (b"3", 2)):
                writer.publish("r", payload, retain=True, qos=qos)
                if qos:
                    await writer.frame()
                first, body = await present.frame()
                assert (first & 1, body[-1:]) == (0, payload)
            writer.publish("r", b"not kept", qos=0)
            assert (await present.frame())[1].endswith(b"not kept")
            late = await live.client("late", version=version)
            await late.subscribe(("r", 2))
            first, body = await late.frame()
            assert (first, body[-1:]) == (0x35, b"3"), "with its QoS"
            writer.publish("r", b"", retain=True, qos=0)
            first, body = await present.frame()
            assert topic_of(body) == "r"
            later = await live.client("later", version=version)
            await later.subscribe(("r", 2))
            assert await later.silent()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("handling", "times"), [(0, (1, 1)), (1, (1, 0)), (2, (0, 0))], ids=["0", "1", "2"]
)
def test_retain_handling_with_each_subscription(handling: int, times: tuple[int, int]) -> None:
    # [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-3], [MQTT-3.8.4-4]
    async def scenario() -> None:
        async with running() as live:
            writer = await live.client("w")
            writer.publish("r", b"x", retain=True)
            await writer.acknowledged()
            raw = await live.client("c", version=5)
            for wanted in times:
                await raw.subscribe(("r", handling << 4))
                if wanted:
                    assert (await raw.frame())[0] == 0x31
                assert await raw.silent()
            writer.publish("r", b"y", qos=0)
            assert (await raw.frame())[0] == 0x30, "once: the subscription was replaced"
            assert await raw.silent()

    asyncio.run(scenario())


@pytest.mark.parametrize("kept", [False, True])
def test_retain_flag_as_published(*, kept: bool) -> None:
    # [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=5)
            await raw.subscribe(("a", 8 if kept else 0))
            writer = await live.client("w")
            for retain in (True, False):
                writer.publish("a", b"x", retain=retain, qos=0)
                assert (await raw.frame())[0] & 1 == (retain and kept)

    asyncio.run(scenario())


PASSED_ON: dict[int, Any] = {
    Property.PAYLOAD_FORMAT: 1,
    Property.CONTENT_TYPE: "text/plain",
    Property.RESPONSE_TOPIC: "answer/here",
    Property.CORRELATION: b"\0\xff",
    Property.USER: (("z", "1"), ("a", "2"), ("z", "3")),
}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_are_passed_on_as_they_came(qos: int) -> None:
    # [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18],
    # [MQTT-3.3.2-20], [MQTT-2.2.2-1], [MQTT-2.2.1-2]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=5)
            await raw.subscribe(("a", 2))
            writer = await live.client("w", version=5)
            writer.publish("a", b"x", qos=qos, properties=PASSED_ON)
            _, body = await raw.frame()
            sent = publish("a", b"x", qos=qos, version=5, properties=PASSED_ON)
            assert sorted(body) == sorted(sent[-len(body) :])
            assert text("z") + text("1") + b"\x26" + text("a") + text("2") in body
            writer.publish("a", b"y", qos=qos, packet_id=2)
            _, body = await raw.frame()
            assert body == b"\0\1a" + (b"\0\2" if qos else b"") + b"\0y"

    asyncio.run(scenario())


def test_expiry_is_counted_down_and_obeyed() -> None:
    # [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", **keeping(5))
            await raw.subscribe(("a", 1))
            raw.cut()
            writer = await live.client("w", version=5)
            for number, seconds in enumerate((5, 60), 1):
                properties: dict[int, Any] = {Property.MESSAGE_EXPIRY: seconds}
                writer.publish("a", b"%d" % seconds, packet_id=number, properties=properties)
                await writer.frame()
            live.clock.jump(10)
            raw = await live.client("c", **keeping(5))
            _, body = await raw.frame()
            assert body.endswith(b"60")
            left_s = int.from_bytes(body[body.index(b"\5\2") + 2 :][:4], "big")
            assert 48 <= left_s <= 50
            assert await raw.silent()

    asyncio.run(scenario())


@BOTH
def test_what_was_sent_is_not_expired_and_comes_again(version: int) -> None:
    # [MQTT-4.3.3-7], [MQTT-4.3.3-13], [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.3.2-3],
    # [MQTT-4.3.3-3]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", **keeping(version))
            await raw.subscribe(("a", 2))
            writer = await live.client("w", version=5)
            for qos in (1, 2):
                properties: dict[int, Any] = {Property.MESSAGE_EXPIRY: 1}
                writer.publish("a", b"%d" % qos, qos=qos, packet_id=qos, properties=properties)
            sent = await raw.frames(2)
            raw.cut()
            live.clock.jump(5)
            raw = await live.client("c", **keeping(version))
            again = await raw.frames(2)
            assert [(first & ~8, body[:5]) for first, body in again] == [
                (first, body[:5]) for first, body in sent
            ]
            assert all(first & 8 for first, _ in again)
            raw.send(puback(1), b"\x50\2\0\2")
            assert await raw.frame() == (0x62, b"\0\2")
            raw.send(b"\x70\2\0\2")
            assert await raw.silent()

    asyncio.run(scenario())


@BOTH
def test_nothing_comes_again_while_the_connection_lives(version: int) -> None:
    # [MQTT-4.4.0-1], [MQTT-4.9.0-3], [MQTT-3.3.4-10]
    async def scenario() -> None:
        limits = BrokerLimits(sys_interval_s=0.0, inflight_max=1)
        async with running(limits=limits) as live:
            raw = await live.client("c", version=version)
            await raw.subscribe(("a", 1))
            writer = await live.client("w")
            writer.publish("a", b"1")
            writer.publish("a", b"2", packet_id=2)
            assert (await raw.frame())[1].endswith(b"1")
            live.clock.jump(500)
            assert await raw.silent()
            assert await raw.subscribe(("b", 0), packet_id=9) == b"\0"
            writer.publish("b", b"QoS 0", qos=0)
            assert (await raw.frame())[1].endswith(b"QoS 0")
            raw.send(puback(1))
            assert (await raw.frame())[1].endswith(b"2")

    asyncio.run(scenario())


def test_send_quota_is_the_clients_receive_maximum() -> None:
    # [MQTT-4.9.0-1], [MQTT-4.9.0-2], [MQTT-3.3.4-9], [MQTT-2.2.1-4], [MQTT-4.3.2-1],
    # [MQTT-4.3.3-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=5, properties={Property.RECEIVE_MAXIMUM: 2})
            await raw.subscribe(("a", 2))
            writer = await live.client("w")
            for number in range(1, 7):
                writer.publish("a", b"%d" % number, qos=1 + number % 2, packet_id=number)
            seen: list[bytes] = []
            for _ in range(3):
                got = await raw.frames(2)
                assert await raw.silent()
                ids = [body[3:5] for _, body in got]
                assert len({*ids}) == 2
                assert b"\0\0" not in ids
                seen += [body[-1:] for _, body in got]
                for first, body in got:
                    if first == 0x32:
                        raw.send(b"\x40\2" + body[3:5])
                    else:
                        raw.send(b"\x50\3" + body[3:5] + b"\x80")  # refused: done with
            assert seen == [b"%d" % number for number in range(1, 7)]

    asyncio.run(scenario())


def test_aliases_end_with_their_connection() -> None:
    # [MQTT-3.3.2-7], [MQTT-3.3.2-12]
    async def scenario() -> None:
        async with running() as live:
            watcher = await live.client("w")
            await watcher.subscribe(("#", 0))
            raw = await live.client("c", **keeping(5))
            for alias in (1, 16):  # all that CONNACK allows
                named: dict[int, Any] = {Property.TOPIC_ALIAS: alias}
                raw.publish(f"topic/{alias}", qos=0, properties=named)
                raw.publish("", qos=0, properties=named)
                for _ in range(2):
                    assert topic_of((await watcher.frame())[1]) == f"topic/{alias}"
            raw.cut()
            raw = await live.client("c", **keeping(5))
            raw.publish("", qos=0, properties={Property.TOPIC_ALIAS: 1})
            assert (await raw.frame())[1][0] == 0x82

    asyncio.run(scenario())


@pytest.mark.parametrize("maximum", [0, 2])
def test_aliases_of_the_server_as_far_as_the_client_says(maximum: int) -> None:
    # [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11]
    async def scenario() -> None:
        async with running() as live:
            properties = {Property.TOPIC_ALIAS_MAXIMUM: maximum} if maximum else {}
            raw = await live.client("c", version=5, properties=properties)
            await raw.subscribe(("a/+", 1))
            writer = await live.client("w")
            said = []
            for number, topic in enumerate(("a/1", "a/1", "a/2", "a/3", "a/3", "a/2"), 1):
                writer.publish(topic, b"x", packet_id=number)
                _, body = await raw.frame()
                said.append((topic_of(body), body[-2] if b"\x23" in body else 0))
            if maximum:
                assert said == [
                    ("a/1", 1), ("", 1), ("a/2", 2), ("a/3", 0), ("a/3", 0), ("", 2)
                ]  # fmt: skip
            else:
                assert [alias for _, alias in said] == [0] * 6

    asyncio.run(scenario())
