"""What a server demands of bytes: packets and CONNECTs that break the format.

Each test names the statements that it checks, as in `test_conformance`.
"""

import asyncio

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.properties import Property
from tests.broker.harness import (
    DISCONNECT,
    connect,
    packet,
    padded,
    publish,
    running,
    subscribe,
    text,
)
from tests.broker.statements import BOTH


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
    "alias unknown": (publish("", version=5, properties={Property.TOPIC_ALIAS: 3}), 0x82),
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
    "length not minimal": (padded(b"\xc0\0"), 0x81),
    "length of a publish not minimal": (padded(publish("a", version=5)), 0x81),
    # [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.14.2-1]
    "PUBACK that says what PUBREL may": (b"\x40\3\0\1\x92", 0x81),
    "PUBREC with a code that is none": (b"\x50\3\0\1\1", 0x81),
    "PUBREL that says what PUBREC may": (b"\x62\3\0\1\x80", 0x81),
    "PUBCOMP that says what PUBACK may": (b"\x70\3\0\1\x10", 0x81),
    "DISCONNECT that is a server's": (b"\xe0\1\x8e", 0x81),
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


def test_padded_length_of_mqtt_3_1_1_reaches_everybody_in_its_shortest_form() -> None:
    async def scenario() -> None:
        async with running() as live:
            here = [await live.client(f"here-{v}", version=v) for v in (4, 5)]
            away = await live.client("away", clean=False)
            for raw in (*here, away):
                await raw.subscribe(("a", 1))
            away.send(DISCONNECT)
            assert await away.closed()
            device = await live.open()
            device.send(padded(connect("device")), padded(publish("a", b"0", qos=0)))
            device.send(padded(publish("a", b"1", packet_id=7)), padded(publish("a", b"", qos=0)))
            assert [first for first, _ in await device.frames(2)] == [0x20, 0x40]
            here.append(await live.client("away", clean=False))
            for raw in here[:2]:  # QoS 0 does not wait for QoS 1
                assert {body[-1:] for _, body in await raw.frames(3)} >= {b"0", b"1"}
            first, body = await here[2].frame()
            assert (first, body) == (0x32, text("a") + b"\0\1" + b"1")

    asyncio.run(scenario())


def test_mqtt_5_connect_with_a_padded_length_is_malformed() -> None:
    # [MQTT-1.5.5-1]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            raw.send(padded(connect("c", version=5)))
            assert (await raw.frame())[1][:2] == b"\0\x81"
            assert await raw.closed()

    asyncio.run(scenario())


def test_will_with_a_response_topic_that_is_a_filter_is_refused() -> None:
    # [MQTT-3.3.2-14]
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            will: dict[int, str] = {Property.RESPONSE_TOPIC: "a/#"}
            raw.send(connect(version=5, will=("a", b"", 0, False), will_properties=will))
            assert (await raw.frame())[1][:2] == b"\0\x82"

    asyncio.run(scenario())


@BOTH
@pytest.mark.parametrize("topic", ["a/+", "#", "", "a/" * 100])
def test_will_on_what_is_no_topic_name_breaks_the_connect(topic: str, version: int) -> None:
    # [MQTT-3.3.2-2], [MQTT-4.7.3-1], 3.1.1 [MQTT-3.1.4-1]: no CONNACK, which would say to try again
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            raw.send(connect(version=version, will=(topic, b"", 0, False)))
            if version == 5:
                code = Code.TOPIC_NAME_INVALID if topic else Code.PROTOCOL_ERROR
                assert (await raw.frame())[1][:2] == bytes((0, code))
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
