"""What is demanded of a server at QoS 1 and 2, on both sides, and across connections.

Each test names the statements that it checks, as in `test_conformance`.
"""

import asyncio

import pytest

from tests.broker.harness import Rules, puback, running
from tests.broker.statements import BOTH, keeping


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
