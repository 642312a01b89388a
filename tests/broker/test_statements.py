"""What the specifications demand of a server, statement by statement, at a real listener.

Each test names the statements that it checks, as in `test_conformance`.
"""

import asyncio
from typing import Any

import pytest

from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from tests.broker.harness import (
    DISCONNECT,
    Rules,
    connect,
    packet,
    puback,
    publish,
    running,
    subscribe,
    text,
    unsubscribe,
    until,
)

BOTH = pytest.mark.parametrize("version", [4, 5])
EXPIRY = {Property.SESSION_EXPIRY: 100}


def keeping(version: int) -> dict[str, Any]:
    """Options of a CONNECT whose session outlives its connection."""
    kept = {"properties": EXPIRY} if version == 5 else {}
    return {"version": version, "clean": False, **kept}


def topic_of(body: bytes) -> str:
    return body[2 : 2 + int.from_bytes(body[:2], "big")].decode()


def frames_of(version: int) -> dict[str, bytes]:
    """Packets that break a rule, each as it comes from a connected client."""
    none = b"\0" if version == 5 else b""
    broken = {
        # [MQTT-2.1.3-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1]
        "PUBACK flags": b"\x41\2\0\1",
        "PUBREL flags": b"\x60\2\0\1",
        "SUBSCRIBE flags": packet(0x80, b"\0\1" + none + text("a") + b"\0"),
        "UNSUBSCRIBE flags": packet(0xA0, b"\0\1" + none + text("a")),
        "PINGREQ flags": b"\xc1\0",
        "DISCONNECT flags": b"\xe1\0",
        # [MQTT-3.15.1-1]
        "AUTH flags": b"\xf1\0",
        # [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-3.3.2-1], [MQTT-4.7.3-2]
        "topic with a surrogate": packet(0x30, b"\0\3\xed\xa0\x80" + none),
        "topic with a null": packet(0x30, b"\0\3a\0b" + none),
        "topic cut short": packet(0x30, b"\0\5a"),
        # [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT-4.7.3-1]
        "topic with +": publish("a/+", qos=0, version=version),
        "topic with #": publish("a/#", qos=0, version=version),
        "no topic": publish("", qos=0, version=version),
        # [MQTT-3.3.1-4], [MQTT-3.3.1-2]
        "QoS 3": packet(0x36, text("a") + b"\0\1" + none),
        "DUP at QoS 0": packet(0x38, text("a") + none),
        # [MQTT-3.8.3-5]
        "subscription QoS 3": subscribe(("a", 3), version=version),
        "reserved bits": subscribe(("a", 0xC0), version=version),
        "SUBSCRIBE without filter": packet(0x82, b"\0\1" + none),
        "UNSUBSCRIBE without filter": packet(0xA2, b"\0\1" + none),
        "identifier 0": publish("a", packet_id=0, version=version),
        # [MQTT-3.1.0-2]
        "second CONNECT": connect("c", version=version),
        "type 0": b"\0\0",
        "CONNACK": b"\x20\2\0\0",
        "length of five bytes": b"\x30\xff\xff\xff\xff\1",
    }
    if version == 4:
        broken["AUTH"] = b"\xf0\0"
    return broken


V5_ONLY = {
    # [MQTT-3.3.2-8], [MQTT-3.3.2-12]: how far aliases go
    "alias 0": (publish("a", version=5, properties={Property.TOPIC_ALIAS: 0}), 0x94),
    "alias beyond": (publish("a", version=5, properties={Property.TOPIC_ALIAS: 17}), 0x94),
    "alias unknown": (publish("", version=5, properties={Property.TOPIC_ALIAS: 3}), 0x94),
    # [MQTT-3.3.2-13], [MQTT-3.3.2-14], [MQTT-3.3.2-19], [MQTT-1.5.7-1], [MQTT-1.5.5-1]
    "response topic #": (
        publish("a", version=5, properties={Property.RESPONSE_TOPIC: "a/#"}),
        0x82,
    ),
    "response topic no text": (packet(0x30, text("a") + b"\4\x08\0\1\xff"), 0x81),
    "content type no text": (packet(0x30, text("a") + b"\4\x03\0\1\xff"), 0x81),
    "user property no text": (packet(0x30, text("a") + b"\6\x26\0\0\0\1\xff"), 0x81),
    "property length not minimal": (packet(0x30, text("a") + b"\x80\0"), 0x81),
    "property twice": (packet(0x30, text("a") + b"\4\1\0\1\0"), 0x82),
    "property unknown": (packet(0x30, text("a") + b"\2\x7f\0"), 0x81),
    "property of another packet": (packet(0x30, text("a") + b"\3\x21\0\1"), 0x81),
    "payload format 2": (packet(0x30, text("a") + b"\2\1\2"), 0x82),
    "AUTH": (b"\xf0\0", 0x82),
    "no-local shared": (subscribe(("$share/g/a", 4), version=5), 0x82),
    "retain handling 3": (subscribe(("a", 0x30), version=5), 0x82),
    "second CONNECT": (connect("c", version=5), 0x82),
    "no topic": (publish("", version=5), 0x82),
    "QoS 3": (packet(0x36, text("a") + b"\0\1\0"), 0x81),
    "flags": (b"\xc1\0", 0x81),
    "identifier 0": (
        subscribe(("a", 0), version=5, properties={Property.SUBSCRIPTION_ID: 0}),
        0x82,
    ),
}


@BOTH
def test_what_breaks_a_rule_ends_the_connection_and_nobody_elses(version: int) -> None:
    # [MQTT-4.13.1-1], [MQTT-4.13.2-1], [MQTT-3.14.4-1], [MQTT-3.14.4-2]
    async def scenario() -> None:
        async with running() as live:
            other = await live.client("other", version=version)
            for name, data in frames_of(version).items():
                raw = await live.client("c", version=version)
                raw.send(data, b"\xc0\0")
                if version == 5:  # [MQTT-3.14.2-1], [MQTT-3.14.0-1]
                    first, body = await raw.frame()
                    assert first == 0xE0, (name, first)
                    assert body[0] in {0x81, 0x82, 0x90}, (name, body)
                assert await raw.closed(), name
            assert await other.silent()

    asyncio.run(scenario())


@pytest.mark.parametrize("name", V5_ONLY)
def test_mqtt_5_says_which_rule_it_was(name: str) -> None:
    # [MQTT-4.13.1-1], [MQTT-3.14.2-1]
    async def scenario() -> None:
        data, code = V5_ONLY[name]
        async with running() as live:
            raw = await live.client(version=5)
            raw.send(data)
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, code)
            assert await raw.closed()

    asyncio.run(scenario())


BROKEN_CONNECTS = {
    # [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13], [MQTT-3.1.4-1],
    # 3.1.1 [MQTT-3.1.4-1]
    "reserved flag": (3, text("c")),
    "will QoS without will": (0x0A, text("c")),
    "will QoS 3": (0x1E, text("c") + text("t") + text("p")),
    "will retain without will": (0x22, text("c")),
    "no client id": (2, b""),
    "client id no text": (2, b"\0\1\xff"),
    "no will topic": (6, text("c")),
    "user name missing": (0x82, text("c")),
    "password missing": (0xC2, text("c") + text("u")),
    "bytes behind": (2, text("c") + b"x"),
}


@BOTH
@pytest.mark.parametrize("name", BROKEN_CONNECTS)
def test_connect_that_breaks_the_format(name: str, version: int) -> None:
    async def scenario() -> None:
        flags, payload = BROKEN_CONNECTS[name]
        if version == 5 and flags & 4:
            payload = text("c") + b"\0" + payload[3:]
        async with running() as live:
            raw = await live.open()
            none = b"\0" if version == 5 else b""
            head = text("MQTT") + bytes((version, flags, 0, 0)) + none
            raw.send(packet(0x10, head + payload), subscribe(("a", 0)))
            if version == 5:  # [MQTT-3.2.2-6], [MQTT-3.2.2-7], [MQTT-3.2.2-8], [MQTT-3.1.4-6]
                first, body = await raw.frame()
                assert (first, body[0]) == (0x20, 0)
                assert body[1] in {0x81, 0x82}
            assert await raw.closed()
            assert live.broker.sessions() == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "level", "answer"),
    [
        ("MQTT", 3, b"\0\1"),
        ("MQTT", 6, b"\0\1"),
        ("MQIsdp", 3, b"\0\1"),
        ("mqtt", 4, b""),
        ("HTTP", 5, b"\0\x82"),
    ],
)
def test_other_protocols_are_not_served(name: str, level: int, answer: bytes) -> None:
    # [MQTT-3.1.2-1], [MQTT-3.1.2-2]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            none = b"\0" if level == 5 else b""
            raw.send(packet(0x10, text(name) + bytes((level, 2, 0, 0)) + none + text("c")))
            if answer:
                assert (await raw.frame())[1][:2] == answer
            assert await raw.closed()

    asyncio.run(scenario())


@BOTH
def test_nothing_comes_before_connack_and_there_is_one(version: int) -> None:
    # [MQTT-3.2.0-1], [MQTT-3.2.0-2], [MQTT-3.1.4-5], [MQTT-3.2.2-1], [MQTT-3.12.4-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            raw.send(
                connect("c", version=version),
                b"\xc0\0",
                subscribe(("a", 1), version=version),
                publish("a", version=version),
                b"\xc0\0",
            )
            kinds = [first >> 4 for first, _ in await raw.frames(6)]
            assert kinds[0] == 2
            assert sorted(kinds[1:]) == [3, 4, 9, 13, 13]

    asyncio.run(scenario())


def test_no_disconnect_before_connack() -> None:
    # [MQTT-3.14.0-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            raw.send(connect("c", version=5), connect("c", version=5))
            assert [first for first, _ in await raw.frames(2)] == [0x20, 0xE0]
            assert await raw.closed()

    asyncio.run(scenario())


@BOTH
def test_sessions_begin_go_on_and_end_as_connect_says(version: int) -> None:
    # [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.1.2-23], [MQTT-3.1.3-2],
    # [MQTT-3.1.4-4], [MQTT-3.2.2-2], [MQTT-3.2.2-3], [MQTT-4.1.0-1], [MQTT-4.5.0-1],
    # 3.1.1 [MQTT-3.1.2-7]
    async def scenario() -> None:
        async with running() as live:
            writer = await live.client("w")
            writer.publish("kept", b"retained", retain=True)
            await writer.acknowledged()
            for present, again in ((0, keeping(version)), (1, keeping(version))):
                raw = await live.open()
                assert (await raw.connect("r", **again))[1][:2] == bytes((present, 0))
                if not present:
                    await raw.subscribe(("a", 1))
                raw.cut()
                writer.publish("a", b"%d" % present)
                await writer.acknowledged()
            raw = await live.open()
            assert (await raw.connect("r", **keeping(version)))[1][:2] == b"\1\0"
            assert [body[-1:] for _, body in await raw.frames(2)] == [b"0", b"1"]
            raw.cut()
            clean = await live.open()
            assert (await clean.connect("r", version=version))[1][:2] == b"\0\0"
            writer.publish("a")
            await writer.acknowledged()
            assert await clean.silent()
            clean.send(DISCONNECT)
            assert await clean.closed()
            raw = await live.open()
            assert (await raw.connect("r", **keeping(version)))[1][:2] == b"\0\0"
            await raw.subscribe(("kept", 0))
            assert (await raw.frame())[1].endswith(b"retained")

    asyncio.run(scenario())


@pytest.mark.parametrize("client_id", ["a", "0123456789abcdefghijklm", "ABCDEFGHIJKLMNOPQRSTUVW"])
def test_ordinary_client_ids_are_accepted(client_id: str) -> None:
    # [MQTT-3.1.3-5]
    async def scenario() -> None:
        async with running() as live:
            await live.client(client_id)

    asyncio.run(scenario())


def test_empty_client_ids_get_different_ones_that_work() -> None:
    # [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16]
    async def scenario() -> None:
        async with running() as live:
            seen = set()
            for _ in range(3):
                raw = await live.open()
                _, body = await raw.connect("", version=5, properties=EXPIRY)
                at = body.index(b"\x12", 3)
                size = int.from_bytes(body[at + 1 : at + 3], "big")
                seen.add(body[at + 3 : at + 3 + size].decode())
                raw.cut()
            assert len(seen) == 3
            raw = await live.open()
            assert (await raw.connect(seen.pop(), **keeping(5)))[1][:2] == b"\1\0"

    asyncio.run(scenario())


def test_mqtt_3_empty_client_id_needs_a_clean_session() -> None:
    # 3.1.1 [MQTT-3.1.3-8], [MQTT-3.1.3-8]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            assert await raw.connect("", clean=False) == (0x20, b"\0\2")
            assert await raw.closed()
            raw = await live.open()
            assert await raw.connect("", clean=True) == (0x20, b"\0\0")

    asyncio.run(scenario())


@BOTH
def test_refused_connect_is_answered_and_what_follows_is_not_looked_at(version: int) -> None:
    # [MQTT-3.1.4-2], [MQTT-3.1.4-6], [MQTT-3.2.2-6], [MQTT-3.2.2-7], [MQTT-3.2.2-8]
    async def scenario() -> None:
        rules = Rules(lambda question: question.action == "connect" and question.client_id == "no")
        async with running(decisions=rules) as live:
            watcher = await live.client("w")
            await watcher.subscribe(("a", 0))
            raw = await live.open()
            raw.send(connect("no", version=version), publish("a", version=version))
            first, body = await raw.frame()
            assert (first, body[:2]) == (0x20, b"\0\x87" if version == 5 else b"\0\5")
            assert await raw.closed()
            assert await watcher.silent()

    asyncio.run(scenario())


@BOTH
def test_takeover_tells_the_older_connection(version: int) -> None:
    # [MQTT-3.1.4-3]
    async def scenario() -> None:
        async with running() as live:
            old = await live.client("c", version=version)
            await live.client("c", version=version)
            if version == 5:
                first, body = await old.frame()
                assert (first, body[0]) == (0xE0, 0x8E)
            assert await old.closed()

    asyncio.run(scenario())


@BOTH
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_will_comes_as_it_was_left(qos: int, version: int, *, retain: bool) -> None:
    # [MQTT-3.1.2-7], [MQTT-3.1.2-8], [MQTT-3.1.2-9], [MQTT-3.1.2-10], [MQTT-3.1.2-14],
    # [MQTT-3.1.2-15]
    async def scenario() -> None:
        async with running() as live:
            watcher = await live.client("watcher", version=version)
            await watcher.subscribe(("will", 2))
            raw = await live.client("c", version=version, will=("will", b"gone", qos, retain))
            raw.cut()
            first, body = await watcher.frame()
            assert first == 0x30 | qos << 1
            assert body.endswith(b"gone")
            again = await live.client("c", version=version)  # it comes once
            again.cut()
            assert await watcher.silent()
            late = await live.client("late", version=version)
            await late.subscribe(("will", 0))
            if retain:
                assert (await late.frame())[0] == 0x31
            else:
                assert await late.silent()

    asyncio.run(scenario())


def test_user_properties_of_a_will_keep_their_order() -> None:
    # [MQTT-3.1.3-10]
    async def scenario() -> None:
        async with running() as live:
            watcher = await live.client("watcher", version=5)
            await watcher.subscribe(("will", 0))
            user = {Property.USER: (("b", "1"), ("a", "2"), ("b", "0"))}
            raw = await live.client(
                "c", version=5, will=("will", b"x", 0, False), will_properties=user
            )
            raw.cut()
            _, body = await watcher.frame()
            wanted = b"".join(
                b"\x26" + text(key) + text(value) for key, value in user[Property.USER]
            )
            assert wanted in body

    asyncio.run(scenario())


@BOTH
def test_goodbye_takes_the_will_back_and_a_broken_connection_does_not(version: int) -> None:
    # [MQTT-3.14.4-3], [MQTT-3.1.2-10]
    async def scenario() -> None:
        async with running() as live:
            watcher = await live.client("watcher")
            await watcher.subscribe(("will", 0))
            raw = await live.client("c", version=version, will=("will", b"1", 0, False))
            raw.send(DISCONNECT)
            assert await raw.closed()
            assert await watcher.silent()
            raw = await live.client("c", version=version, will=("will", b"2", 0, False))
            raw.send(b"\xc1\0")
            assert (await watcher.frame())[1].endswith(b"2")

    asyncio.run(scenario())


@BOTH
def test_return_within_the_delay_cancels_the_will(version: int) -> None:
    # [MQTT-3.1.3-9]
    async def scenario() -> None:
        async with running() as live:
            watcher = await live.client("watcher")
            await watcher.subscribe(("will", 0))
            raw = await live.client(
                "c",
                version=5,
                clean=False,
                properties=EXPIRY,
                will=("will", b"x", 0, False),
                will_properties={Property.WILL_DELAY: 5},
            )
            raw.cut()
            await live.client("c", **keeping(version))
            live.clock.jump(6)
            assert await watcher.silent()

    asyncio.run(scenario())


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


@BOTH
def test_qos_2_handshake_of_a_publisher(version: int) -> None:
    # [MQTT-3.3.4-1], [MQTT-4.3.3-8], [MQTT-4.3.3-10], [MQTT-4.3.3-11], [MQTT-4.3.3-12],
    # [MQTT-2.2.1-5], [MQTT-3.5.2-1], [MQTT-3.7.2-1]
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("a", 0))
            raw = await live.client("c", version=version)
            for round_number in range(2):  # the identifier is free afterwards
                for dup in (False, True):
                    raw.publish("a", b"%d" % round_number, qos=2, packet_id=7, dup=dup)
                    assert await raw.frame() == (0x50, b"\0\7")
                raw.send(b"\x62\2\0\7")
                assert await raw.frame() == (0x70, b"\0\7")
                assert (await reader.frame())[1][-1:] == b"%d" % round_number
            assert await reader.silent()
            raw.send(b"\x62\2\0\x63")
            assert await raw.frame() == (0x70, b"\0\x63" + (b"\x92" if version == 5 else b""))

    asyncio.run(scenario())


def test_refused_qos_2_publish_leaves_its_identifier_free() -> None:
    # [MQTT-4.3.3-9], [MQTT-3.5.2-1]
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "no")
        async with running(decisions=rules) as live:
            reader = await live.client("r")
            await reader.subscribe(("a", 0))
            raw = await live.client("c", version=5)
            raw.publish("no", qos=2, packet_id=7)
            first, body = await raw.frame()
            assert (first, body[:3]) == (0x50, b"\0\7\x87")
            raw.publish("a", b"new", qos=2, packet_id=7)
            assert await raw.frame() == (0x50, b"\0\7")
            assert (await reader.frame())[1].endswith(b"new")

    asyncio.run(scenario())


@BOTH
def test_puback_frees_the_identifier_whatever_dup_says(version: int) -> None:
    # [MQTT-4.3.2-4], [MQTT-4.3.2-5], [MQTT-3.3.1-3], [MQTT-3.4.2-1]
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r")
            await reader.subscribe(("a", 1))
            raw = await live.client("c", version=version)
            for dup in (False, True):
                raw.publish("a", b"x", packet_id=5, dup=dup)
                await raw.acknowledged(5)
                first, _ = await reader.frame()
                assert first == 0x32, "DUP is not passed on"

    asyncio.run(scenario())


@BOTH
def test_qos_2_handshake_of_a_subscriber(version: int) -> None:
    # [MQTT-4.3.3-2], [MQTT-4.3.3-4], [MQTT-4.3.3-5], [MQTT-4.3.3-6], [MQTT-3.6.1-1],
    # [MQTT-3.6.2-1], [MQTT-4.3.2-2], [MQTT-4.3.1-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", **keeping(version))
            await raw.subscribe(("a", 2))
            writer = await live.client("w")
            for qos in (0, 1, 2):
                writer.publish("a", b"x", qos=qos, packet_id=qos + 1)
                assert (await raw.frame())[0] == 0x30 | qos << 1
            raw.send(puback(1), b"\x50\2\0\2")
            assert await raw.frame() == (0x62, b"\0\2")
            raw.cut()
            raw = await live.client("c", **keeping(version))
            assert await raw.frame() == (0x62, b"\0\2"), "PUBREL, not PUBLISH"
            raw.send(b"\x70\2\0\2")
            assert await raw.silent()
            raw.send(b"\x50\2\0\x09")
            unknown = b"\0\x09" + (b"\x92" if version == 5 else b"")
            assert await raw.frame() == (0x62, unknown)

    asyncio.run(scenario())


@pytest.mark.parametrize(("kind", "published"), [(0x40, 1), (0x50, 2)])
def test_refusal_by_a_subscriber_is_an_acknowledgement(kind: int, published: int) -> None:
    # [MQTT-4.4.0-2], [MQTT-4.8.2-6]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", **keeping(5))
            other = await live.client("other", version=5)
            await raw.subscribe(("$share/g/a", 2))
            writer = await live.client("w")
            writer.publish("a", b"x", qos=published)
            _, body = await raw.frame()
            await other.subscribe(("$share/g/a", 2))
            raw.send(bytes((kind, 3)) + body[3:5] + b"\x80")
            assert await raw.silent()
            raw.cut()
            raw = await live.client("c", **keeping(5))
            assert await raw.silent()
            assert await other.silent()

    asyncio.run(scenario())


def test_share_completes_with_the_member_that_it_began_with() -> None:
    # [MQTT-4.8.2-3], [MQTT-4.8.2-4], [MQTT-4.8.2-5]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", **keeping(5))
            await raw.subscribe(("$share/g/a", 1))
            writer = await live.client("w")
            writer.publish("a", b"1", qos=2)
            assert (await raw.frame())[0] == 0x32, "at most the QoS that was granted"
            other = await live.client("other", version=5)
            await other.subscribe(("$share/g/a", 0))
            raw.cut()
            assert await other.silent()
            raw = await live.client("c", **keeping(5))
            assert (await raw.frame())[1].endswith(b"1")
            assert await writer.frame() == (0x50, b"\0\1")
            for number in (2, 3):
                writer.publish("a", b"%d" % number, packet_id=number)
                await writer.acknowledged(number)
            raw.cut()
            await live.client("c", version=5)  # clean: the session ends with what it had
            assert (await other.frame())[1][-1:] in {b"2", b"3"}
            assert await other.silent()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "topic_filter", ["$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/#/a"]
)
def test_shares_that_are_none(topic_filter: str) -> None:
    # [MQTT-4.8.2-1], [MQTT-4.8.2-2], [MQTT-3.8.4-7], [MQTT-3.9.3-2]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            assert await raw.subscribe((topic_filter, 1)) == b"\x8f"

    asyncio.run(scenario())


@BOTH
def test_suback_has_a_code_for_each_filter_in_order(version: int) -> None:
    # [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.8.4-7],
    # [MQTT-3.9.3-1], [MQTT-3.9.3-2], [MQTT-2.2.1-6], [MQTT-4.7.1-1], [MQTT-4.7.1-2],
    # [MQTT-4.7.3-1]
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "no")
        async with running(decisions=rules) as live:
            raw = await live.client(version=version)
            wanted = [
                ("a", 0, 0),
                ("b", 1, 1),
                ("c/#", 2, 2),
                ("no", 2, 0x87),
                ("d/#/e", 0, 0x8F),
                ("d#", 0, 0x8F),
                ("d+", 0, 0x8F),
                ("+/d+/e", 0, 0x8F),
                ("+", 1, 1),
                ("#", 1, 1),
                ("/+/", 1, 1),
                ("", 1, 0x8F),
            ]
            codes = await raw.subscribe(*((name, qos) for name, qos, _ in wanted), packet_id=0x1234)
            assert list(codes) == [c if version == 5 else min(c, 0x80) for _, _, c in wanted]

    asyncio.run(scenario())


@BOTH
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_delivered_qos_is_the_lower_one(sent: int, granted: int, version: int) -> None:
    # [MQTT-3.8.4-8]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=version)
            await raw.subscribe(("a", granted))
            writer = await live.client("w")
            writer.publish("a", b"x", qos=sent)
            assert (await raw.frame())[0] >> 1 & 3 == min(sent, granted)

    asyncio.run(scenario())


@BOTH
def test_subscribing_again_replaces_and_loses_nothing(version: int) -> None:
    # [MQTT-3.8.4-3], [MQTT-3.8.4-4]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=version)
            await raw.subscribe(("a", 2))
            writer = await live.client("w")
            writer.send(*(publish("a", b"%03d" % n, packet_id=n) for n in range(1, 51)))
            raw.send(subscribe(("a", 0), version=version, packet_id=9))
            writer.send(*(publish("a", b"%03d" % n, packet_id=n) for n in range(51, 101)))
            got = [body for first, body in await raw.frames(101) if first >> 4 == 3]
            assert [body[-3:] for body in got] == [b"%03d" % n for n in range(1, 101)]
            writer.publish("a", b"x")
            assert (await raw.frame())[0] == 0x30

    asyncio.run(scenario())


@BOTH
def test_overlapping_subscriptions_give_one_copy_at_the_highest_qos(version: int) -> None:
    # [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [MQTT-3.3.2-3]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=version)
            for number, (topic_filter, qos) in enumerate((("a/#", 0), ("a/+", 2), ("a/b", 1)), 1):
                properties: dict[int, Any] = {}
                if version == 5:
                    properties[Property.SUBSCRIPTION_ID] = number
                await raw.subscribe((topic_filter, qos), properties=properties)
            await raw.subscribe(("other", 2))
            writer = await live.client("w")
            writer.publish("a/b", b"x", qos=2)
            first, body = await raw.frame()
            assert first == 0x34
            assert topic_of(body) == "a/b"
            if version == 5:
                assert body[7:].startswith(b"\6\x0b\1\x0b\2\x0b\3")
            assert await raw.silent()

    asyncio.run(scenario())


def test_no_local_keeps_a_clients_own_messages_from_it() -> None:
    # [MQTT-3.8.3-3]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=5)
            await raw.subscribe(("a", 4))
            raw.publish("a", b"own", qos=0)
            assert await raw.silent()
            writer = await live.client("w")
            writer.publish("a", b"another's", qos=0)
            assert (await raw.frame())[1].endswith(b"another's")

    asyncio.run(scenario())


@BOTH
def test_unsubscribe_stops_what_is_new_and_completes_what_was_begun(version: int) -> None:
    # [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-3], [MQTT-3.10.4-4], [MQTT-3.10.4-5],
    # [MQTT-3.10.4-6], [MQTT-3.11.3-1], [MQTT-3.11.3-2], [MQTT-2.2.1-6]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", **keeping(version))
            await raw.subscribe(("a", 2), ("a/+", 1), ("A", 1))
            writer = await live.client("w")
            writer.publish("a", b"1", qos=2)
            await raw.frame()
            raw.send(unsubscribe(["a", "a/b", "a/+"], packet_id=0x0909, version=version))
            codes = b"\0\0\x11\0" if version == 5 else b""
            assert await raw.frame() == (0xB0, b"\x09\x09" + codes)
            writer.publish("a", b"2", packet_id=2)
            writer.publish("a/b", b"3", packet_id=3)
            assert await raw.silent()
            writer.publish("A", b"4", packet_id=4)
            assert (await raw.frame())[1].endswith(b"4"), "compared character by character"
            raw.cut()
            raw = await live.client("c", **keeping(version))
            first, body = await raw.frame()
            assert (first, body[-1:]) == (0x3C, b"1")
            raw.send(b"\x50\2" + body[3:5])
            assert (await raw.frame())[0] == 0x32 or (await raw.frame())[0] == 0x62

    asyncio.run(scenario())


MATCHES = [
    ("sport/#", "sport", True),
    ("sport/#", "sport/tennis/x", True),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+", "/finance", False),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("a//b", "a//b", True),
    ("a/+/b", "a//b", True),
    ("a", "A", False),
    ("a/b", "a/b/", False),
    ("#", "$x/a", False),
    ("+/a", "$x/a", False),
    ("e\u0301", "\u00e9", False),  # [MQTT-4.7.3-4]: nothing is normalised
    ("\ufeffa", "\ufeffa", True),  # [MQTT-1.5.4-3]
    ("\ufeffa", "a", False),
    ("a b/%41", "a b/%41", True),
    ("x" * 4000, "x" * 4000, True),
]


@pytest.mark.parametrize(("topic_filter", "topic", "matching"), MATCHES)
def test_filters_match_topics(topic_filter: str, topic: str, *, matching: bool) -> None:
    # [MQTT-3.3.2-3], [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.2-1], [MQTT-4.7.3-3]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c")
            await raw.subscribe((topic_filter, 0))
            writer = await live.client("w")
            writer.publish(topic, b"x", qos=0)
            assert await writer.silent()
            if matching:
                assert topic_of((await raw.frame())[1]) == topic
            assert await raw.silent()

    asyncio.run(scenario())


@BOTH
def test_order_is_kept_for_each_qos(version: int) -> None:
    # [MQTT-4.6.0-5], [MQTT-4.6.0-6], [MQTT-4.2.0-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=version)
            await raw.subscribe(("a", 2))
            writer = await live.client("w", version=version)
            for number in range(1, 301):
                writer.publish("a", b"%03d" % number, qos=number % 3, packet_id=number)
            got: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
            for _ in range(300):
                first, body = await raw.frame()
                got[first >> 1 & 3].append(body[-3:])
            assert all(numbers == sorted(numbers) for numbers in got.values())

    asyncio.run(scenario())


@BOTH
def test_acknowledgements_come_in_order(version: int) -> None:
    # [MQTT-4.6.0-2], [MQTT-4.6.0-3], [MQTT-4.6.0-4]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", version=version)
            await raw.subscribe(("a", 2))
            writer = await live.client("w", version=version)
            writer.send(
                *(publish("a", qos=1 + n % 2, packet_id=n, version=version) for n in range(1, 41))
            )
            answers = await writer.frames(40)
            assert [body[:2] for _, body in answers] == [n.to_bytes(2, "big") for n in range(1, 41)]
            second = [body[3:5] for first, body in await raw.frames(40) if first == 0x34]
            shuffled = second[::-1]
            raw.send(*(b"\x50\2" + number for number in shuffled))
            assert [body for _, body in await raw.frames(20)] == shuffled

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
            assert (await raw.frame())[1][0] == 0x94

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


def test_client_gets_nothing_larger_than_it_takes() -> None:
    # [MQTT-3.1.2-24], [MQTT-3.1.2-25], [MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2],
    # [MQTT-3.9.2-1], [MQTT-3.14.2-3]
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "no" or question.client_id == "refused")
        async with running(decisions=rules) as live:
            small = {Property.MAXIMUM_PACKET_SIZE: 30}
            raw = await live.open()
            _, body = await raw.connect("refused", version=5, properties=small)
            assert (body[1], len(body)) == (0x87, 3)
            raw = await live.client("c", version=5, properties=small)
            assert await raw.subscribe(("a", 1), ("no", 0)) == b"\1\x87"
            writer = await live.client("w")
            writer.publish("a", bytes(100), packet_id=1)
            writer.publish("a", b"small", packet_id=2)
            assert (await raw.frame())[1].endswith(b"small")
            for qos, kind in ((1, 0x40), (2, 0x50)):
                raw.publish("no", qos=qos, packet_id=qos)
                assert await raw.frame() == (kind, bytes((0, qos, 0x87)))
            raw.send(subscribe(("$share/group/of/members", 4), version=5))
            assert await raw.frame() == (0xE0, b"\x82")

    asyncio.run(scenario())


def test_reasons_only_for_those_who_ask() -> None:
    # [MQTT-3.1.2-29]
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "no")
        async with running(decisions=rules) as live:
            for wanted in (0, 1):
                raw = await live.client(version=5, properties={Property.REQUEST_PROBLEM: wanted})
                raw.publish("no", packet_id=3)
                _, body = await raw.frame()
                assert (len(body) > 3) is bool(wanted)
                raw.send(subscribe(("no", 0), version=5))
                _, body = await raw.frame()
                assert (len(body) > 4) is bool(wanted)

    asyncio.run(scenario())


def test_keepalive_of_the_client_is_used_unless_another_is_told() -> None:
    # [MQTT-3.2.2-22]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            _, body = await raw.connect("c", version=5, keepalive_s=10)
            assert b"\x13" not in body[3:]
            live.clock.jump(14)
            assert await raw.silent()
            live.clock.jump(16)
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, 0x8D)

    asyncio.run(scenario())


def test_session_ends_when_its_expiry_is_over() -> None:
    # [MQTT-4.1.0-2], [MQTT-4.1.0-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client("c", **keeping(5))
            live.clock.jump(500)
            assert await raw.silent(), "not while it is connected"
            raw.cut()
            raw = await live.open()
            assert (await raw.connect("c", **keeping(5)))[1][0] == 1
            raw.send(DISCONNECT)
            assert await raw.closed()
            live.clock.jump(101)
            await until(lambda: not live.broker.sessions(), "its end")
            raw = await live.open()
            assert (await raw.connect("c", **keeping(5)))[1][0] == 0

    asyncio.run(scenario())


def test_authentication_method_is_refused() -> None:
    # [MQTT-4.12.0-1], [MQTT-4.12.0-4]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            _, body = await raw.connect(
                version=5, properties={Property.AUTHENTICATION_METHOD: "SCRAM"}
            )
            assert body[1] == 0x8C
            assert await raw.closed()

    asyncio.run(scenario())


def test_denied_publish_of_mqtt_3_is_never_dropped_in_silence() -> None:
    # 3.1.1 [MQTT-3.3.5-2]
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "no")
        async with running(decisions=rules) as live:
            raw = await live.client()
            raw.publish("no")
            assert await raw.closed()

    asyncio.run(scenario())
