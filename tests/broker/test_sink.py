"""The contract of every sink."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plantroom.broker import segments
from plantroom.broker.memory import MemorySink
from plantroom.broker.runs import Origin, Run
from plantroom.broker.session import Session
from plantroom.broker.sink import (
    Batch,
    Change,
    Cursor,
    IncomingSaved,
    Pruned,
    ReleasedSaved,
    RetainedSaved,
    SessionDropped,
    SessionSaved,
    Sink,
    State,
    SubscriptionDropped,
    SubscriptionSaved,
    WillSaved,
)
from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.broker.tree import Grant, Match
from plantroom.wire.database import Database
from tests.broker.harness import publish

SetTap = Callable[[int], None]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, SetTap]]:
    if request.param == "memory":
        memory = MemorySink()
        yield memory, lambda number: memory.taps.update(derive=number)
        return
    database = Database.open(tmp_path / "broker.db", MIGRATIONS)

    def set_tap(number: int) -> None:
        database.write_now(
            lambda db: db.execute("INSERT OR REPLACE INTO tap VALUES('derive', ?)", (number,))
        )

    yield SqliteStore(database), set_tap
    database.close()


def batch(
    *changes: Change,
    segment: bytes = b"",
    tapped: bool = False,
    waiting: tuple[tuple[int, int], ...] = (),
    cursors: tuple[Cursor, ...] = (),
) -> Batch:
    return Batch(
        at_us=1, segment=segment, tapped=tapped, waiting=waiting, changes=changes, cursors=cursors
    )


def after(sink: Sink, *batches: Batch) -> State:
    async def scenario() -> State:
        for one in batches:
            await sink.commit(one)
        return await sink.load()

    return asyncio.run(scenario())


SESSION = SessionSaved(sid=7, spiffe_id="spiffe://a/b", client_id="c", expiry_s=9, ended_at_us=None)
SUBSCRIPTION = SubscriptionSaved(sid=7, topic_filter="a/#", options=9, identifier=3)
RETAINED = RetainedSaved(topic="t", packet=b"p", publisher="w", at_us=5)
WILL = WillSaved(sid=7, packet=b"w", publisher="w", client_id="c", delay_s=4, serial="0A")
INCOMING = IncomingSaved(sid=7, packet_id=8, open=True)
RELEASED = ReleasedSaved(sid=7, ordinal=90_000, finished=False)
CURSOR = Cursor(7, 1, 2, 3)
ORIGIN = Origin(1, "w", "w")
EVERYTHING = (SESSION, SUBSCRIPTION, RETAINED, WILL, INCOMING, RELEASED)


def test_what_was_committed_is_loaded(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened
    state = after(
        sink, batch(*EVERYTHING, segment=b"data", waiting=((7, 90_002),), cursors=(CURSOR,))
    )
    assert state.sessions == (SESSION,)
    assert state.subscriptions == (SUBSCRIPTION,)
    assert state.retained == (RETAINED,)
    assert state.wills == (WILL,)
    assert state.incoming == (INCOMING,)
    assert state.released == (RELEASED,)
    assert state.cursors == (CURSOR,)
    assert state.waiting == ((7, 90_002),)
    assert state.log_bytes == 4


def test_changes_may_be_applied_again(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened
    state = after(sink, batch(*EVERYTHING), batch(*EVERYTHING))
    assert len(state.sessions) == len(state.incoming) == len(state.released) == 1


def test_what_is_dropped_is_gone_with_all_that_belongs_to_it(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened
    state = after(
        sink,
        batch(*EVERYTHING, cursors=(CURSOR,)),
        batch(
            SessionDropped(sid=7),
            RetainedSaved(topic="t", packet=None, publisher="", at_us=6),
            WillSaved(sid=7, packet=None),
        ),
    )
    assert not (state.sessions)
    assert not (state.subscriptions)
    assert not (state.incoming)
    assert not (state.released)
    assert not (state.retained)
    assert not (state.wills)
    assert not (state.cursors)


def test_single_rows_can_be_dropped(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened
    state = after(
        sink,
        batch(*EVERYTHING),
        batch(
            SubscriptionDropped(sid=7, topic_filter="a/#"),
            IncomingSaved(sid=7, packet_id=8, open=False),
            ReleasedSaved(sid=7, ordinal=90_000, finished=True),
        ),
    )
    assert state.sessions == (SESSION,)
    assert not (state.subscriptions)
    assert not (state.incoming)
    assert state.released == (ReleasedSaved(sid=7, ordinal=90_000, finished=True),)


def test_boot_rises_with_every_start(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened
    assert [after(sink).boot for _ in range(3)] == [1, 2, 3]


def test_segments_are_numbered_and_never_reused(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened

    async def scenario() -> None:
        assert await sink.commit(batch(segment=b"1", waiting=((7, 1),))) == 1
        assert await sink.commit(batch(SESSION)) == 0
        assert await sink.prune([7]) == Pruned(freed_bytes=1), "no such session any more"
        assert await sink.commit(batch(segment=b"2")) == 2

    asyncio.run(scenario())


def cursor(sid: int, done: int) -> Batch:
    return batch(cursors=(Cursor(sid, done, done, 100),))


def test_tapped_segments_wait_for_their_taps(opened: tuple[Sink, SetTap]) -> None:
    sink, set_tap = opened

    async def scenario() -> None:
        for number in range(3):
            await sink.commit(batch(segment=b"%d" % number, tapped=True))
        set_tap(0)
        assert (await sink.prune([])).freed_bytes == 0
        set_tap(2)
        assert (await sink.prune([])).freed_bytes == 2
        assert (await sink.prune([])).freed_bytes == 0
        set_tap(3)
        assert (await sink.prune([])).freed_bytes == 1
        assert (await sink.load()).log_bytes == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("tap_first", [True, False])
def test_tapped_segment_waits_for_tap_and_sessions(
    opened: tuple[Sink, SetTap], *, tap_first: bool
) -> None:
    sink, set_tap = opened

    async def scenario() -> None:
        await sink.commit(
            batch(
                segment=b"x", tapped=True, waiting=((7, 5), (8, 9)), cursors=(Cursor(7, 0, 0, 5),)
            )
        )
        await sink.commit(cursor(8, 0))
        set_tap(1 if tap_first else 0)
        assert (await sink.prune([7, 8])).freed_bytes == 0
        await sink.commit(cursor(7, 5))
        assert (await sink.prune([7, 8])).freed_bytes == 0, "the other one waits"
        await sink.commit(cursor(8, 8))
        assert (await sink.prune([8])).freed_bytes == 0, "not whole yet"
        await sink.commit(cursor(8, 9))
        assert (await sink.prune([8])).freed_bytes == (1 if tap_first else 0)
        set_tap(1)
        assert (await sink.prune([])).freed_bytes == (0 if tap_first else 1)
        assert (await sink.load()).waiting == ()

    asyncio.run(scenario())


def stored_run(*waiting: tuple[int, int], data: bytes = b"") -> bytes:
    """A segment with one run, for these sessions from these ordinals on."""
    run = Run(ORIGIN, data or publish("t", b"x"), version=4, match=Match(), at_us=1)
    run.receivers = [
        (Session(Origin(sid, "r", "r"), durable=True, limit_bytes=1), Grant(qos=1), 1, ordinal)
        for sid, ordinal in waiting
    ]
    return segments.pack([run])


def test_session_reads_what_it_waits_for_in_order_and_in_pieces(
    opened: tuple[Sink, SetTap],
) -> None:
    sink, _ = opened

    async def scenario() -> None:
        for number in range(10):
            await sink.commit(
                batch(
                    segment=stored_run((7, number), (8, 50 + number)),
                    waiting=((7, number + 1), (8, 51 + number)),
                )
            )
        assert [entry.end for entry in await sink.read(7, 0, 100, 1)] == [1]
        found = await sink.read(7, 3, 8, 1 << 20)
        assert [entry.end for entry in found] == [4, 5, 6, 7, 8]
        assert [run.waiting[0].ordinal for entry in found for run in entry.runs] == [3, 4, 5, 6, 7]
        assert all(len(run.waiting) == 1 for entry in found for run in entry.runs)
        assert len(await sink.read(8, 55, 60, 24)) == 3, "three packets reach the size"
        assert await sink.read(9, 0, 100, 1) == []

    asyncio.run(scenario())


def test_damaged_segment_costs_only_itself(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened

    async def scenario() -> None:
        for number in range(3):
            data = stored_run((7, number))
            await sink.commit(
                batch(segment=data[:-1] if number == 1 else data, waiting=((7, number + 1),))
            )
        good, damaged, last = await sink.read(7, 0, 3, 1 << 20)
        assert good.runs
        assert last.runs
        assert not damaged.runs
        assert "cut short" in damaged.damage

    asyncio.run(scenario())


def test_what_a_session_that_is_gone_waited_for_is_freed(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened

    async def scenario() -> None:
        count = 2500
        await sink.commit(batch(SESSION, cursors=(Cursor(7, 0, 0, 5),)))
        for number in range(count):
            await sink.commit(batch(segment=b"x", waiting=((7, number + 1),)))
        assert (await sink.prune([7])).freed_bytes == 0
        await sink.commit(batch(SessionDropped(sid=7)))
        assert await sink.prune([7]) == Pruned(freed_bytes=count)
        assert (await sink.load()).log_bytes == 0

    asyncio.run(scenario())


def test_qos_2_states_are_forgotten_behind_the_cursor(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened

    async def scenario() -> tuple[ReleasedSaved, ...]:
        await sink.commit(batch(RELEASED, ReleasedSaved(sid=7, ordinal=3, finished=True)))
        await sink.commit(cursor(7, 3))
        await sink.prune([7])
        assert len((await sink.load()).released) == 2
        await sink.commit(cursor(7, 4))
        await sink.prune([7])
        return (await sink.load()).released

    assert asyncio.run(scenario()) == (RELEASED,)
