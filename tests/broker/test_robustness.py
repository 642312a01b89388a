"""What a broken or hostile client can do at most: limits hold, are counted, hurt nobody else."""

import asyncio
import socket
import time
from typing import Any

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.primitives import varint
from plantroom.broker.properties import Property
from plantroom.broker.settings import BrokerLimits
from tests.broker.harness import (
    Live,
    Raw,
    connect,
    packet,
    publish,
    running,
    subscribe,
    text,
    unsubscribe,
    until,
)

QUICK_S = 5.0  # of this process's own time, for work that takes a tenth of it
LINGER_S = (
    6.0  # after which a connection that the broker has closed is gone, whatever its client does
)


def limited(**some: Any) -> BrokerLimits:
    return BrokerLimits(sys_interval_s=0.0, **some)


def hits(live: Live, limit: str) -> int:
    return live.broker._engine.counters.limits[limit]


async def served(live: Live) -> None:
    """A well-behaved client gets its round trip."""
    raw = await live.client("well-behaved", version=5)
    await raw.subscribe(("good/+", 1))
    raw.publish("good/one", b"payload", packet_id=9)
    frames = await raw.frames(2)
    assert sorted(first >> 4 for first, _ in frames) == [3, 4]
    raw.close()


async def reason(raw: Raw) -> int:
    """The code of DISCONNECT, which has to come before the end."""
    while True:
        first, body = await raw.frame()
        if first == 0xE0:
            assert await raw.closed()
            return body[0]


# Time --------------------------------------------------------------------------------------------


def test_connect_that_does_not_come_whole_in_time_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with running(limits=limited(handshake_timeout_s=10.0)) as live:
            raws = [await live.open() for _ in range(3)]
            raws[1].send(connect("slow")[:-1])
            await until(lambda: len(live.broker._engine.doorway) == 3)
            live.clock.jump(11)
            for raw in raws:
                assert await raw.closed()
            live.clock.jump(LINGER_S)
            await until(lambda: len(live.broker._engine.doorway) == 0)
            assert hits(live, "handshake_timeout_s") == 3
            await served(live)

    asyncio.run(scenario())


def test_packet_that_dribbles_is_not_waited_for_but_a_slow_one_is() -> None:
    async def scenario() -> None:
        async with running(limits=limited(packet_timeout_s=30.0)) as live:
            slow = await live.client("slow", version=5)
            for byte in publish("a", b"payload", packet_id=1, version=5):
                slow.send(bytes((byte,)))
                live.clock.jump(1)
            await slow.acknowledged(1)
            dribbling = await live.client("dribbling", version=5)
            whole = publish("a", b"x" * 100, packet_id=1, version=5)
            for start in range(0, 50, 10):
                dribbling.send(whole[start : start + 10])
                await until(lambda: live.broker._engine.connections)
                live.clock.jump(7)
            assert await reason(dribbling) == Code.UNSPECIFIED_ERROR
            assert hits(live, "packet_timeout_s") == 1
            live.clock.jump(31)
            assert await slow.silent(), "idle between packets is no fault"

    asyncio.run(scenario())


def test_half_open_connection_is_found_by_keep_alive_and_by_tcp() -> None:
    async def scenario() -> None:
        async with running(limits=limited(tcp_keepalive_s=44)) as live:
            await live.client("gone", keepalive_s=20)
            (connection,) = live.broker._engine.connections
            sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 44
            live.clock.jump(31)
            await until(lambda: live.broker._engine.counters.keepalive_timeouts == 1)
            live.clock.jump(LINGER_S)
            await until(lambda: not live.broker._engine.connections)

    asyncio.run(scenario())


# Floods at the door ------------------------------------------------------------------------------


def test_address_with_too_many_that_are_not_through_gets_no_more() -> None:
    async def scenario() -> None:
        async with running(limits=limited(address_waiting_max=3)) as live:
            through = [await live.client(f"c{number}") for number in range(5)]
            waiting = [await live.open() for _ in range(3)]
            await until(lambda: len(live.broker._engine.doorway) == 3)
            assert await (await live.open()).closed()
            assert hits(live, "address_waiting_max") == 1
            waiting[0].close()
            await until(lambda: len(live.broker._engine.doorway) == 2)
            await served(live)
            assert await through[0].silent()

    asyncio.run(scenario())


def test_connections_have_a_limit_and_those_who_are_in_stay() -> None:
    async def scenario() -> None:
        async with running(limits=limited(connections_max=2)) as live:
            raws = [await live.client(f"c{number}") for number in range(2)]
            for _ in range(5):
                assert await (await live.open()).closed()
            assert hits(live, "connections_max") == 5
            for raw in raws:
                assert await raw.silent()
            raws[0].close()
            await until(lambda: len(live.broker._engine.connections) == 1)
            await served(live)

    asyncio.run(scenario())


def test_flood_of_client_ids_ends_at_the_sessions_that_are_allowed() -> None:
    async def scenario() -> None:
        async with running(limits=limited(sessions_max=20)) as live:
            for number in range(20):
                raw = await live.client(f"kept-{number}", clean=False)
                raw.cut()
            answer = await (await live.open()).connect("one-more", version=5)
            assert answer[1][1] == Code.QUOTA_EXCEEDED
            assert hits(live, "sessions_max") == 1
            assert len(live.broker.sessions()) == 20
            await live.client("kept-7", clean=False)

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [4, 5])
def test_client_id_and_will_have_a_size(version: int) -> None:
    async def scenario() -> None:
        async with running(limits=limited(client_id_bytes_max=23, will_bytes_max=100)) as live:
            asked: list[dict[str, Any]] = [
                {"client_id": "x" * 24},
                {"will": ("w", b"x" * 101, 0, False)},
            ]
            for options in asked:
                raw = await live.open()
                raw.send(connect(version=version, **options))
                if version == 5:
                    first, body = await raw.frame()
                    assert (first, body[1] >= 0x80) == (0x20, True)
                assert await raw.closed()
            assert hits(live, "client_id_bytes_max") == hits(live, "will_bytes_max") == 1

    asyncio.run(scenario())


# Packets -----------------------------------------------------------------------------------------


def test_packet_that_claims_to_be_huge_is_refused_by_its_first_bytes() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            raw.send(b"\x30" + varint(268_435_455))
            assert await reason(raw) == Code.PACKET_TOO_LARGE
            stranger = await live.open()
            stranger.send(b"\x10" + varint(300_000))
            assert await stranger.closed()
            assert hits(live, "packet_bytes_max") == 2
            await served(live)

    asyncio.run(scenario())


def test_large_packets_have_a_bound_together_and_wait_for_each_other() -> None:
    async def scenario() -> None:
        async with running(limits=limited(partial_bytes_max=400_000)) as live:
            engine = live.broker._engine
            first, second = await live.client("first"), await live.client("second")
            whole = publish("a", b"x" * 150_000)
            first.send(whole[:100_000])
            await until(lambda: engine.room.taken_bytes == len(whole), "the first to have room")
            second.send(whole)
            await until(lambda: engine.counters.bytes_received > 100_100, "the second")
            assert engine.room.taken_bytes == len(whole)
            first.send(whole[100_000:])
            await first.acknowledged()
            await second.acknowledged()
            assert engine.room.taken_bytes == 0
            first.send(whole[:100_000])
            await until(lambda: engine.room.taken_bytes == len(whole), "the first again")
            second.send(whole[:50_000])
            first.cut()
            second.send(whole[50_000:])
            await second.acknowledged()
            assert hits(live, "partial_bytes_max") == 0

    asyncio.run(scenario())


def test_many_tiny_packets_do_not_keep_others_waiting() -> None:
    async def scenario() -> None:
        async with running() as live:
            other = await live.client("other")
            flood = await live.client("flood")
            flood.send(b"\xc0\x00" * 200_000)
            started_s = time.process_time()
            longest_s = 0.0
            for _ in range(20):
                before_s = time.process_time()
                assert await other.silent()
                longest_s = max(longest_s, time.process_time() - before_s)
            assert longest_s < QUICK_S, f"{longest_s:.2f} s"
            assert time.process_time() - started_s < 2 * QUICK_S
            flood.cut()
            await served(live)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["connect", "will", "publish"])
def test_user_properties_by_the_thousand_cost_little_and_are_refused(kind: str) -> None:
    async def scenario() -> None:
        pairs = (("", ""),) * (50_000 if kind != "publish" else 100_000)
        bomb: dict[int, Any] = {Property.USER: pairs}
        async with running() as live:
            started_s = time.process_time()
            if kind == "publish":
                raw = await live.client(version=5)
                raw.publish("a", properties=bomb)
                assert await reason(raw) == Code.QUOTA_EXCEEDED
            else:
                raw = await live.open()
                mine: dict[str, Any] = {"properties": bomb}
                if kind == "will":
                    mine = {"will": ("w", b"", 0, False), "will_properties": bomb}
                _, body = await raw.connect(version=5, **mine)
                assert body[1] == Code.QUOTA_EXCEEDED
            assert time.process_time() - started_s < QUICK_S
            assert hits(live, "user_properties_max") == 1
            await served(live)

    asyncio.run(scenario())


# Subscriptions and topics ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["subscribe", "unsubscribe"])
def test_flood_of_filters_in_one_packet_is_refused(name: str) -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            many = [f"{number:x}" for number in range(100_000)]
            if name == "subscribe":
                raw.send(subscribe(*((one, 0) for one in many), version=5))
            else:
                raw.send(unsubscribe(many, version=5))
            assert await reason(raw) == Code.QUOTA_EXCEEDED
            assert hits(live, "subscribe_filters_max") == 1
            assert live.broker._engine.tree.size == 0
            await served(live)

    asyncio.run(scenario())


def test_million_subscriptions_end_at_the_limits_of_a_session_and_of_all() -> None:
    async def scenario() -> None:
        limits = limited(session_subscriptions_max=1000, subscriptions_max=2500)
        async with running(limits=limits) as live:
            refused = 0
            for number in range(4):
                raw = await live.client(f"c{number}", version=5)
                for part in range(3):
                    codes = await raw.subscribe(
                        *((f"{number}/{part}/{n}", 1) for n in range(500)), packet_id=part + 1
                    )
                    refused += codes.count(Code.QUOTA_EXCEEDED)
            assert live.broker._engine.tree.size == 2500
            assert refused == 4 * 1500 - 2500
            assert hits(live, "session_subscriptions_max") + hits(live, "subscriptions_max") == (
                refused
            )

    asyncio.run(scenario())


def test_wildcards_as_bad_as_a_session_may_have_them_cost_a_bounded_time() -> None:
    """Every combination of + and a level, and #: a match visits each node at most once."""

    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            filters = [
                "/".join("+" if number >> bit & 1 else "a" for bit in range(9)) + "/#"
                for number in range(500)
            ]
            for number, topic_filter in enumerate(filters, 1):
                await raw.subscribe(
                    (topic_filter, 0), properties={Property.SUBSCRIPTION_ID: number}
                )
            tree = live.broker._engine.tree
            started_s = time.process_time()
            for number in range(20):
                match = tree.match("/".join("a" * 9) + f"/{number}")
                assert len(match.entries[0][1].identifiers) == 500
            assert time.process_time() - started_s < QUICK_S
            raw.send(b"\xe0\x00")
            await served(live)

    asyncio.run(scenario())


def test_topic_depth_and_length_are_refused_in_publish_and_subscribe() -> None:
    async def scenario() -> None:
        async with running(limits=limited(topic_levels_max=8, topic_bytes_max=100)) as live:
            raw = await live.client(version=5)
            codes = await raw.subscribe(("+/" * 8 + "#", 0), ("x" * 101, 0), ("a/#", 0))
            assert list(codes) == [Code.TOPIC_FILTER_INVALID, Code.TOPIC_FILTER_INVALID, 0]
            for topic, limit in (("a/" * 8, "topic_levels_max"), ("x" * 101, "topic_bytes_max")):
                raw = await live.client(version=5)
                raw.publish(topic)
                assert await reason(raw) == Code.TOPIC_NAME_INVALID
                assert hits(live, limit) == 2

    asyncio.run(scenario())


def test_long_topics_are_not_remembered() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client()
            for number in range(100):
                raw.publish(f"{number}/" + "x" * 1000, qos=0)
            assert await raw.silent()
            assert not live.broker._engine.tree._matches
            assert not live.broker._engine._kinds

    asyncio.run(scenario())


def test_retained_messages_have_a_bound_in_bytes() -> None:
    async def scenario() -> None:
        async with running(limits=limited(retained_bytes_max=100)) as live:
            raw = await live.client(version=5)
            codes = []
            for number, (topic, size) in enumerate(
                [("a", 60), ("b", 60), ("a", 90), ("a", 0), ("b", 60)], 1
            ):
                raw.publish(topic, b"x" * size, packet_id=number, retain=True)
                _, body = await raw.frame()
                codes.append(body[2] if len(body) > 2 else 0)
            full = int(Code.QUOTA_EXCEEDED)
            assert codes == [0, full, 0, 0, 0]
            assert live.broker._engine.retained.size_bytes == 61
            assert hits(live, "retained_bytes_max") == 1

    asyncio.run(scenario())


def test_packet_behind_the_flags_of_a_refused_one_is_not_read() -> None:
    async def scenario() -> None:
        async with running() as live:
            raw = await live.client(version=5)
            raw.send(packet(0x82, b"\0\1\0" + text("a") + b"\3"), publish("b", version=5))
            assert await reason(raw) == Code.MALFORMED_PACKET
            assert live.broker._engine.counters.publishes_received == 0

    asyncio.run(scenario())
