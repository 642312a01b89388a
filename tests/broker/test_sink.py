"""The contract of every sink."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plantroom.broker.memory import MemorySink
from plantroom.broker.sink import (
    Batch,
    Change,
    Cursor,
    IncomingSaved,
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
from plantroom.wire.database import Database

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
    *changes: Change, segment: bytes = b"", tapped: bool = False, cursors: tuple[Cursor, ...] = ()
) -> Batch:
    return Batch(
        at_us=1, segment=segment, tapped=tapped, waiting=True, changes=changes, cursors=cursors
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
WILL = WillSaved(sid=7, packet=b"w", publisher="w", client_id="c", delay_s=4)
INCOMING = IncomingSaved(sid=7, packet_id=8, open=True)
RELEASED = ReleasedSaved(sid=7, ordinal=90_000, open=True)
CURSOR = Cursor(7, 1, 2, 3)
EVERYTHING = (SESSION, SUBSCRIPTION, RETAINED, WILL, INCOMING, RELEASED)


def test_what_was_committed_is_loaded(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened
    state = after(sink, batch(*EVERYTHING, segment=b"data", cursors=(CURSOR,)))
    assert state.sessions == (SESSION,)
    assert state.subscriptions == (SUBSCRIPTION,)
    assert state.retained == (RETAINED,)
    assert state.wills == (WILL,)
    assert state.incoming == (INCOMING,)
    assert state.released == (RELEASED,)
    assert state.cursors == (CURSOR,)
    assert state.segments == ((1, False, b"data"),)


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
            ReleasedSaved(sid=7, ordinal=90_000, open=False),
        ),
    )
    assert state.sessions == (SESSION,)
    assert not (state.subscriptions)
    assert not (state.incoming)
    assert not (state.released)


def test_boot_rises_with_every_start(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened
    assert [after(sink).boot for _ in range(3)] == [1, 2, 3]


def test_segments_are_numbered_and_never_reused(opened: tuple[Sink, SetTap]) -> None:
    sink, _ = opened

    async def scenario() -> None:
        assert await sink.commit(batch(segment=b"1")) == 1
        assert await sink.commit(batch(SESSION)) == 0
        assert await sink.prune([1]) == []
        assert await sink.commit(batch(segment=b"2")) == 2

    asyncio.run(scenario())


def test_tapped_segments_wait_for_their_taps(opened: tuple[Sink, SetTap]) -> None:
    sink, set_tap = opened

    async def scenario() -> None:
        for number in range(3):
            await sink.commit(batch(segment=b"%d" % number, tapped=True))
        assert await sink.prune([1, 2, 3]) == [1, 2, 3]
        set_tap(2)
        assert await sink.prune([1, 2, 3]) == [3]

    asyncio.run(scenario())
