"""What is retained goes to a new subscription a piece at a time, whole, and within its limits."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.broker.catalog import open_sink
from plantroom.broker.memory import MemorySink
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sink import Sink
from plantroom.broker.walks import PIECE_MESSAGES
from plantroom.wire.errors import StorageFullError
from plantroom.wire.link import Message
from tests.broker.harness import Live, Raw, puback, running, subscribe, unsubscribe, until

COUNT = 5 * PIECE_MESSAGES
LIMITS = BrokerLimits(sys_interval_s=0.0, session_queue_bytes_max=262_144)


@pytest.fixture(params=["memory", "sqlite"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    made, close = open_sink(request.param, tmp_path / "broker.db")
    yield made
    close()


async def retain(live: Live, count: int = COUNT, payload: bytes = b"x") -> set[str]:
    topics = [f"r/{number % 7}/{number}" for number in range(count)]
    messages = [Message(topic=topic, payload=payload, qos=1, retain=True) for topic in topics]
    await asyncio.gather(*(live.broker.publish(one, publisher="me") for one in messages))
    return set(topics)


async def take(raw: Raw, count: int) -> list[str]:
    """Receive so many retained messages, acknowledging those of QoS 1; return their topics."""
    topics = []
    for _ in range(count):
        first, body = await raw.frame()
        assert first & 0xF1 == 0x31
        end = 2 + int.from_bytes(body[:2], "big")
        topics.append(body[2:end].decode())
        if first & 2:
            raw.send(puback(int.from_bytes(body[end : end + 2], "big")))
    return topics


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("clean", [True, False])
def test_everything_comes_once_and_others_have_their_turn(
    sink: Sink,
    qos: int,
    clean: bool,  # noqa: FBT001
) -> None:
    async def scenario() -> None:
        async with running(sink=sink, limits=LIMITS) as live:
            topics = await retain(live)
            other = await live.client("other")
            groups = live.broker._engine.journal.commits
            reader = await live.client("r", clean=clean)
            await reader.subscribe(("r/#", qos))
            assert await other.silent()
            found = await take(reader, COUNT)
            assert len(found) == len(set(found))
            assert set(found) == topics
            assert await reader.silent()
            await until(lambda: not live.broker._engine.walks, "the walk to end")
            if not clean and qos:
                assert live.broker._engine.journal.commits > groups + COUNT // PIECE_MESSAGES

    asyncio.run(scenario())


def test_client_that_does_not_acknowledge_is_waited_for_and_not_cut_off() -> None:
    async def scenario() -> None:
        async with running(limits=LIMITS) as live:
            await retain(live, payload=bytes(2000))
            reader = await live.client("r")
            await reader.subscribe(("r/#", 1))
            session = live.broker._engine.clients.get(("anonymous", "r")).session  # type: ignore[union-attr]
            await until(lambda: live.broker._engine.walks._tours[session].waiting, "it waits")
            assert session.pending_bytes + session.flight_bytes < LIMITS.session_queue_bytes_max
            assert len(set(await take(reader, COUNT))) == COUNT

    asyncio.run(scenario())


def test_rest_is_in_the_queue_of_a_durable_session_that_goes_away_and_nowhere_else() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, limits=LIMITS) as live:
            await retain(live, payload=bytes(2000))
            for name, clean in (("durable", False), ("clean", True)):
                raw = await live.client(name, clean=clean)
                await raw.subscribe(("r/#", 1))
                raw.cut()
            await until(lambda: not live.broker._engine.walks, "all walks to end")
            raw = await live.client("durable", clean=False)
            topics: set[bytes] = set()
            while len(topics) < COUNT:  # what had been sent comes again
                first, body = await raw.frame()
                end = 2 + int.from_bytes(body[:2], "big")
                topics.add(body[2:end])
                assert first & 0x37 == 0x33
                raw.send(puback(int.from_bytes(body[end : end + 2], "big")))

    asyncio.run(scenario())


def test_walk_ends_with_its_subscription_and_leaves_out_what_came_later() -> None:
    async def scenario() -> None:
        async with running(limits=LIMITS) as live:
            await retain(live, payload=bytes(2000))
            reader = await live.client("r")
            await reader.subscribe(("r/#", 1), ("late", 0))
            late = Message(topic="r/late", payload=b"", qos=1, retain=True)
            await live.broker.publish(late, publisher="me")
            reader.send(unsubscribe(["r/#"]))
            count = 0
            while (frame := await reader.frame())[0] != 0xB0:
                count += 1
                body = frame[1]
                end = 2 + int.from_bytes(body[:2], "big")
                if frame[0] & 2:
                    reader.send(puback(int.from_bytes(body[end : end + 2], "big")))
            assert count < COUNT
            await until(lambda: not live.broker._engine.walks, "the walk to end")

    asyncio.run(scenario())


def test_value_that_is_replaced_under_way_comes_as_it_was_published_and_not_again() -> None:
    async def scenario() -> None:
        async with running(limits=LIMITS) as live:
            topics = await retain(live)
            reader = await live.client("r")
            await reader.subscribe(("r/#", 0))
            new = [Message(topic=topic, payload=b"new", retain=True) for topic in sorted(topics)]
            for message in new:
                await live.broker.publish(message, publisher="me")
            await until(lambda: not live.broker._engine.walks, "the walk to end")
            reader.send(b"\xc0\0")
            said: dict[bytes, list[tuple[int, bytes]]] = {}
            while (frame := await reader.frame())[0] != 0xD0:
                end = 2 + int.from_bytes(frame[1][:2], "big")
                said.setdefault(frame[1][2:end], []).append((frame[0] & 1, frame[1][end:]))
            assert len(said) == COUNT
            for heard in said.values():  # what was replaced before its turn is not sent at all
                assert heard in ([(1, b"x"), (0, b"new")], [(0, b"new")])

    asyncio.run(scenario())


def test_watcher_is_called_for_all_unless_it_has_stopped() -> None:
    async def scenario() -> None:
        async with running(limits=LIMITS) as live:
            topics = await retain(live)
            seen: list[str] = []
            live.broker.watch("r/#", lambda message, _: seen.append(message.topic))
            stopped: list[str] = []
            stop = live.broker.watch("r/#", lambda message, _: stopped.append(message.topic))
            await until(lambda: stopped, "the first piece")
            stop()
            await until(lambda: len(seen) == COUNT, "all pieces")
            assert set(seen) == topics
            assert len(stopped) < COUNT

    asyncio.run(scenario())


def test_walk_that_a_restart_has_cut_short_goes_on_from_there(sink: Sink) -> None:
    async def scenario() -> None:
        async with running(sink=sink, limits=LIMITS) as live:
            topics = await retain(live, payload=bytes(2000))
            raw = await live.client("r", clean=False)
            await raw.subscribe(("r/#", 1), ("r/+/none", 1))
            assert (await raw.frame())[0] & 1
            assert live.broker._engine.walks, "waits for room"
        for _ in range(2):  # and again
            async with running(sink=sink, limits=LIMITS) as live:
                await until(lambda: not live.broker._engine.walks, "the walk to end")
                await live.broker.publish(Message(topic="other", payload=b"", qos=1), publisher="x")
        async with running(sink=sink, limits=LIMITS) as live:
            assert not live.broker._engine.walks
            raw = await live.client("r", clean=False)
            assert set(found := await take(raw, COUNT)) == topics
            assert len(found) == COUNT, "none twice"
            assert await raw.silent()

    asyncio.run(scenario())


def test_piece_that_could_not_be_stored_is_gone_for_again() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with running(sink=sink, limits=LIMITS) as live:
            topics = await retain(live)
            stranger, reader = (
                await live.client("s", clean=False),
                await live.client("r", clean=False),
            )
            await reader.subscribe(("r/#", 1))
            found = set(await take(reader, PIECE_MESSAGES // 2))
            sink.fault = StorageFullError("disk is full")
            stranger.send(subscribe(("a", 1)))
            assert (await stranger.frame())[1][-1] == 0x80
            sink.fault = None
            while found != topics:
                found.update(await take(reader, 1))

    asyncio.run(scenario())
