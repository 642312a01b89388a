"""CONNECT: versions, client ids, refusals, takeover, sessions, keep-alive."""

import asyncio
import logging
from typing import Any

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from plantroom.wire.identity import Principal
from tests.broker.harness import (
    DISCONNECT,
    HVAC,
    OTHER,
    Raw,
    Rules,
    connect,
    packet,
    publish,
    running,
    subscribe,
    text,
    until,
)


def names_in(body: bytes) -> str:
    return body.decode(errors="replace")


def test_unsupported_version_is_told_in_its_own_form() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            raw.send(connect(version=3))
            assert await raw.frame() == (0x20, b"\0\1")
            assert await raw.closed()
            raw = await live.open()
            raw.send(packet(0x10, text("MQIsdp") + b"\3\2\0\0" + text("c")))
            assert await raw.frame() == (0x20, b"\0\1")

    asyncio.run(scenario())


def test_second_connect_is_a_protocol_error() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            raw.send(connect(version=5))
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.PROTOCOL_ERROR)
            raw = await live.client()
            raw.send(connect())
            assert await raw.closed()

    asyncio.run(scenario())


def test_empty_client_id() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            assert await raw.connect("", clean=False) == (0x20, b"\0\2")
            assert await raw.closed()
            raw = await live.open()
            assert await raw.connect("", clean=True) == (0x20, b"\0\0")
            raw = await live.open()
            _, body = await raw.connect("", version=5)
            assert body[1] == 0
            assert b"auto-" in body
            assert len({s.client_id for s in live.broker.sessions()}) == 2

    asyncio.run(scenario())


def test_enhanced_authentication_is_refused_properly() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.open()
            _, body = await raw.connect(
                version=5, properties={Property.AUTHENTICATION_METHOD: "SCRAM"}
            )
            assert body[1] == Code.BAD_AUTHENTICATION_METHOD
            assert await raw.closed()

    asyncio.run(scenario())


@pytest.mark.parametrize("clean", [True, False])
def test_takeover_closes_the_old_connection(*, clean: bool) -> None:
    async def scenario() -> None:
        async with running() as live:
            old = await live.client("same", version=5)
            new = await live.client("same", version=5, clean=clean)
            first, body = await old.frame()
            assert (first, body[0]) == (0xE0, Code.SESSION_TAKEN_OVER)
            assert await old.closed()
            assert await new.silent()
            (session,) = live.broker.sessions()
            assert session.connected

    asyncio.run(scenario())


@pytest.mark.parametrize("most", [3, 5, 13])
def test_connack_that_is_too_large_for_the_client_is_not_sent(most: int) -> None:
    # [MQTT-3.1.2-24]
    async def scenario() -> None:
        async with running() as live:
            here = await live.client("c", version=5)
            raw = await live.open()
            raw.send(connect("c", version=5, properties={Property.MAXIMUM_PACKET_SIZE: most}))
            if most >= 5:
                assert await raw.frame() == (0x20, bytes((0, Code.PACKET_TOO_LARGE, 0)))
            assert await raw.closed()
            assert await here.silent(), "not taken over"

    asyncio.run(scenario())


def test_session_present_is_told_only_when_there_is_one() -> None:
    async def scenario() -> None:
        async with running() as live:
            for clean, present in ((False, 0), (False, 1), (True, 0), (False, 0)):
                raw = await live.open()
                assert await raw.connect("p", clean=clean) == (0x20, bytes((present, 0)))
                raw.send(DISCONNECT)
                assert await raw.closed()

    asyncio.run(scenario())


def test_unacknowledged_messages_come_again_with_dup_and_the_same_ids() -> None:
    async def scenario() -> None:
        async with running() as live:
            reader = await live.client("r", clean=False)
            await reader.subscribe(("a", 1), ("b", 2))
            writer = await live.client("w")
            writer.send(
                publish("a", b"1", packet_id=1),
                publish("b", b"2", packet_id=2, qos=2),
                publish("b", b"3", packet_id=3, qos=2),
                publish("a", b"4", packet_id=4),
            )
            before = await reader.frames(4)
            reader.send(b"\x40\2\0\4")  # out of turn: the last is done
            reader.send(b"\x50\2\0\2")  # the second is received, and waits for PUBREL
            assert await reader.frame() == (0x62, b"\0\2")
            reader.cut()
            await until(lambda: not all(s.connected for s in live.broker.sessions()))
            writer.publish("a", b"5", packet_id=5)
            await writer.frames(5)
            reader = await live.client("r", clean=False)
            after = await reader.frames(4)
            assert after[0] == (before[0][0] | 8, before[0][1])
            assert after[1] == (0x62, b"\0\2")
            assert after[2] == (before[2][0] | 8, before[2][1])
            assert (after[3][0], after[3][1][-1:]) == (0x32, b"5")
            assert await reader.silent()

    asyncio.run(scenario())


def test_session_of_one_principal_cannot_be_reached_by_another() -> None:
    async def scenario() -> None:
        who = {"now": HVAC}

        async def as_(spiffe_id: Any, raw: Raw, live: Any, **options: Any) -> bytes:
            def new() -> Any:
                return [c for c in live.broker._engine.connections if c.peer.principal is None]

            (connection,) = await until(new, "the connection of the next one")
            connection.peer.principal = Principal(
                spiffe_id=spiffe_id, serial="1", not_after_s=1 << 40
            )
            return (await raw.connect("shared", **options))[1]

        async with running() as live:
            mine = await live.open()
            await as_(who["now"], mine, live, clean=False)
            await mine.subscribe(("a", 1))
            theirs = await live.open()
            assert await as_(OTHER, theirs, live, clean=False) == b"\0\0"  # no session present
            assert await mine.silent(), "not taken over"
            assert {s.spiffe_id for s in live.broker.sessions()} == {str(HVAC), str(OTHER)}

    asyncio.run(scenario())


def test_denied_connect_touches_no_session(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            good = await live.client("dev", version=5, clean=False)
            rules.denied = lambda question: question.action == "connect"
            rules.generation += 1  # nobody is told: only new questions are answered anew
            for version, code in ((4, 5), (5, Code.NOT_AUTHORIZED)):
                bad = await live.open()
                _, body = await bad.connect("dev", version=version, clean=True)
                assert body[1] == code
                if version == 5:
                    assert "decision d" in names_in(body)
                assert await bad.closed()
            assert await good.silent()

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert sum("connect-denied" in r.getMessage() for r in caplog.records) == 2


def test_client_id_is_asked_for() -> None:
    async def scenario() -> None:
        rules = Rules(lambda question: question.client_id != "mine")
        async with running(decisions=rules) as live:
            await live.client("mine")
            raw = await live.open()
            assert (await raw.connect("other"))[1] == b"\0\5"

    asyncio.run(scenario())


def test_will_that_may_not_be_published_refuses_the_connection() -> None:
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "not/mine")
        async with running(decisions=rules) as live:
            raw = await live.open()
            answer = await raw.connect(will=("not/mine", b"x", 1, False))
            assert answer == (0x20, b"\0\5")

    asyncio.run(scenario())


def test_question_that_needs_time_suspends_only_its_connection() -> None:
    async def scenario() -> None:
        rules = Rules(lambda question: question.topic == "no")
        rules.slow = True
        rules.release.clear()
        async with running(decisions=rules) as live:
            raw = await live.open()
            raw.version = 5
            raw.send(
                connect("slow", version=5),
                subscribe(("a", 1), version=5),
                publish("a", b"1", packet_id=1, version=5),
                publish("no", b"2", packet_id=2, version=5),
                publish("a", b"3", packet_id=3, version=5),
            )
            await until(lambda: live.broker._engine.connections)
            rules.release.set()
            frames = await raw.frames(7)
            assert frames[0][0] == 0x20
            pubacks = [body for first, body in frames if first == 0x40]
            assert [body[:2] for body in pubacks] == [b"\0\1", b"\0\2", b"\0\3"]
            assert pubacks[1][2] == Code.NOT_AUTHORIZED
            payloads = [body[-1:] for first, body in frames if first == 0x32]
            assert payloads == [b"1", b"3"]

    asyncio.run(scenario())


def test_answers_without_a_life_hold_for_their_packet() -> None:
    async def scenario() -> None:
        rules = Rules()
        rules.slow = True
        rules.ttl_s = 0.0
        async with running(decisions=rules) as live:
            raw = await live.client("c", version=5)
            raw.publish("a")
            await raw.acknowledged()

    asyncio.run(scenario())


def test_server_keepalive_and_expiry_are_told_when_they_differ() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(keepalive_s_max=60, session_expiry_s_max=1000, sys_interval_s=0.0)
        async with running(limits=limits) as live:
            raw = await live.open()
            _, body = await raw.connect(
                version=5, keepalive_s=0, properties={Property.SESSION_EXPIRY: 5000}
            )
            assert bytes((Property.SERVER_KEEP_ALIVE, 0, 60)) in body
            assert bytes((Property.SESSION_EXPIRY,)) + (1000).to_bytes(4, "big") in body

    asyncio.run(scenario())


def test_session_ends_after_its_expiry() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(
                "e", version=5, properties={Property.SESSION_EXPIRY: 60}, clean=False
            )
            raw.send(DISCONNECT)
            assert await raw.closed()
            live.clock.jump(30)
            raw = await live.open()
            answer = await raw.connect(
                "e", version=5, properties={Property.SESSION_EXPIRY: 60}, clean=False
            )
            assert answer[1][0] == 1
            raw.send(DISCONNECT)
            assert await raw.closed()
            live.clock.jump(61)
            await until(lambda: not live.broker.sessions())

    asyncio.run(scenario())


def test_disconnect_may_not_start_an_expiry_that_connect_did_not_have() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            raw.send(b"\xe0\x07\x00\x05\x11\0\0\0\x05")
            first, body = await raw.frame()
            assert (first, body[0]) == (0xE0, Code.PROTOCOL_ERROR)

    asyncio.run(scenario())


def test_sessions_have_a_limit() -> None:
    async def scenario() -> None:
        limits = BrokerLimits(sessions_max=2, sys_interval_s=0.0)
        async with running(limits=limits) as live:
            await live.client("1")
            await live.client("2")
            raw = await live.open()
            assert (await raw.connect("3"))[1] == b"\0\3"
            await live.client("2")

    asyncio.run(scenario())


def test_subscriptions_are_decided_again_when_a_session_is_resumed() -> None:
    async def scenario() -> None:
        rules = Rules()
        async with running(decisions=rules) as live:
            raw = await live.client("p", clean=False)
            await raw.subscribe(("a", 1), ("b", 1))
            raw.send(DISCONNECT)
            assert await raw.closed()
            rules.change(lambda question: question.topic == "a")
            await live.client("p", clean=False)
            assert live.broker.sessions()[0].subscriptions == ("b",)

    asyncio.run(scenario())
