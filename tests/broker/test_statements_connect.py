"""What is demanded of a server at CONNECT, for sessions and for wills, at a real listener.

Each test names the statements that it checks, as in `test_conformance`.
"""

import asyncio

import pytest

from plantroom.broker.properties import Property
from tests.broker.harness import (
    DISCONNECT,
    Rules,
    connect,
    publish,
    running,
    subscribe,
    text,
    until,
)
from tests.broker.statements import BOTH, EXPIRY, keeping


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
