"""What is demanded of a server for subscriptions: answers, matching, shares, order.

Each test names the statements that it checks, as in `test_conformance`.
"""

import asyncio
from typing import Any

import pytest

from plantroom.broker.properties import Property
from tests.broker.harness import Rules, publish, running, subscribe, unsubscribe
from tests.broker.statements import BOTH, keeping, topic_of


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
    # [MQTT-3.9.3-1], [MQTT-3.9.3-2], [MQTT-2.2.1-6], [MQTT-4.7.1-1], [MQTT-4.7.1-2].
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
