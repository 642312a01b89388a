"""The contract of a store: every implementation in the catalog is held to it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plantroom.cloud.catalog import READERS, STORES
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.store import Altered, Committed, Delivery, Store, StoredBook, StoreReader
from plantroom.views.history import HistoryQuery
from plantroom.wire.envelope import Span
from plantroom.wire.ranges import RangeSet
from tests.fakes.deliveries import (
    DEVICE,
    MINUTE_US,
    T0_US,
    delivery,
    note,
    reading,
    recorded,
    recording,
)

Play = Callable[[Store], Coroutine[Any, Any, Any]]
KINDS = sorted(STORES)


class Box:
    """One store on disk, opened anew for every play."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind, self.path = kind, path

    def play(self, play: Play) -> Any:
        async def main() -> Any:
            store = STORES[self.kind](self.path, belongs_by_name)
            try:
                return await play(store)
            finally:
                store.close()

        return asyncio.run(main())

    def commit(self, *deliveries: Delivery) -> Committed:
        done = self.play(lambda store: store.commit(deliveries))
        assert isinstance(done, Committed)
        return done

    def look(self, work: Callable[[StoreReader], Any]) -> Any:
        reader = READERS[self.kind](self.path)
        try:
            return work(reader)
        finally:
            reader.close()

    def seqs(self) -> list[int]:
        rows = self.look(lambda reader: list(reader.export()))
        return sorted({row.seq for row in rows})

    def altered(self, book: StoredBook) -> list[Altered]:
        found: list[Altered] = self.look(lambda reader: reader.verify(book))
        return found

    def book(self, *, epoch: int = 1) -> StoredBook:
        books: list[StoredBook] = self.look(lambda reader: reader.books())
        (found,) = [book for book in books if book.epoch == epoch]
        return found


@pytest.fixture(params=KINDS)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    return Box(request.param, tmp_path / "store.db")


def spans(found: tuple[Span, ...]) -> list[tuple[int, int]]:
    return [(span.first, span.last) for span in found]


def test_commit_receipts_its_ranges_and_counts_up(box: Box) -> None:
    first = box.commit(delivery([reading(0), reading(1), reading(5)], number=3))
    second = box.commit(delivery([reading(2)], number=4))
    receipt = first.receipts[0]
    assert (receipt.incarnation, receipt.number) == (7, 3)
    assert spans(receipt.stored) == [(0, 1), (5, 5)]
    assert second.receipts[0].store_id == receipt.store_id
    assert second.receipts[0].commit > receipt.commit
    assert [r.seq for r in first.stored] == [0, 1, 5]


def test_a_store_knows_the_commits_of_all_its_openings_and_no_other(box: Box) -> None:
    one, two = (box.commit(delivery([reading(seq)])).receipts[0] for seq in range(2))
    heard = {one.branch: one.commit, two.branch: two.commit}
    assert box.play(lambda store: store.knows(two.commit, heard))
    assert not box.play(lambda store: store.knows(two.commit, {one.branch: two.commit}))


def test_same_reading_again_is_counted_receipted_and_not_stored_twice(box: Box) -> None:
    box.commit(delivery([reading(0), reading(1)]))
    again = box.commit(delivery([reading(1), reading(0)], number=2))
    assert again.duplicates == 2
    assert again.stored == ()
    assert spans(again.receipts[0].stored) == [(0, 1)]
    assert box.seqs() == [0, 1]


def test_duplicate_within_one_commit_is_stored_once(box: Box) -> None:
    done = box.commit(delivery([reading(0), reading(0)]), delivery([reading(0)], number=2))
    assert done.duplicates == 2
    assert len(done.receipts) == 2
    assert box.seqs() == [0]


def test_same_key_with_another_hash_is_quarantined_and_the_book_disputed(box: Box) -> None:
    box.commit(delivery([reading(0, temperature=20.0)]))
    done = box.commit(delivery([reading(0, temperature=99.0), reading(1)], number=2))
    assert done.quarantined == {"epoch-reuse": 1}
    (span,) = done.receipts[0].quarantined
    assert (span.first, span.reason) == (0, "epoch-reuse")
    assert spans(done.receipts[0].stored) == [(1, 1)]
    assert box.book().disputed
    rows = box.look(lambda reader: list(reader.export()))
    assert [row.value for row in rows if row.point == "temperature" and row.seq == 0] == [20.0]
    again = box.commit(delivery([reading(0, temperature=99.0)], number=3))
    assert again.quarantined == {}, "the same culprit is counted once"
    assert spans(again.receipts[0].quarantined) == [(0, 0)], "and receipted every time"


def test_time_alone_drops_nothing(box: Box) -> None:
    box.commit(delivery([reading(seq, time_us=T0_US) for seq in range(10)]))
    assert box.seqs() == list(range(10))


def test_device_of_another_site_is_quarantined_and_opens_no_book(box: Box) -> None:
    foreign = reading(0, device="spiffe://building-2.smart.local/agent/hvac-001")
    nameless = reading(1, device="no SPIFFE ID")
    done = box.commit(delivery([foreign, nameless, reading(2)]))
    assert done.quarantined == {"foreign-device": 2}
    assert [book.device for book in box.look(lambda reader: reader.books())] == ["hvac-001"]


def test_order_of_arrival_does_not_matter(box: Box) -> None:
    for seq in (5, 3, 4, 0, 2, 1):
        box.commit(delivery([reading(seq)], number=seq))
    rows = box.look(lambda reader: list(reader.export()))
    assert [row.seq for row in rows if row.point == "temperature"] == [0, 1, 2, 3, 4, 5]
    assert list(box.book().stored) == [(0, 5)]


def test_holes_end_at_the_highest_that_anybody_knows(box: Box) -> None:
    box.commit(delivery([reading(1), reading(4)], heads={DEVICE: {1: 9}}))
    assert list(box.book().holes) == [(0, 0), (2, 3), (5, 9)]


def test_notes_settle_holes_once_and_stored_is_stronger(box: Box) -> None:
    done = box.commit(
        delivery(
            [reading(0)],
            notes=[
                note("evicted", 0, 0, 3),
                note("quarantined", 1, 2, 2),
                note("gone", 2, 3, 5),
            ],
        )
    )
    assert done.receipts[0].notes == (("sensor", 1, 0), ("sensor", 1, 1), ("sensor", 1, 2))
    book = box.book()
    assert list(book.evicted) == [(1, 1), (3, 3)]
    assert list(book.quarantined) == [(2, 2)]
    assert list(book.gone) == [(4, 5)]
    assert not book.holes
    box.commit(delivery([reading(1), reading(4)], notes=[note("evicted", 0, 0, 3)], number=2))
    book = box.book()
    assert list(book.stored) == [(0, 1), (4, 4)]
    assert list(book.evicted) == [(3, 3)]
    assert list(book.gone) == [(5, 5)]


def test_same_number_with_other_content_is_another_note(box: Box) -> None:
    box.commit(delivery(notes=[note("evicted", 0, 0, 1)]))
    box.commit(delivery(notes=[note("evicted", 0, 5, 6)], number=2))
    assert list(box.book().evicted) == [(0, 1), (5, 6)]


def test_foreign_note_is_kept_and_changes_no_book(box: Box) -> None:
    box.commit(delivery([reading(0)], heads={DEVICE: {1: 5}}))
    done = box.commit(delivery(notes=[note("gone", 0, 1, 5)], site="building-2", number=2))
    assert done.receipts[0].notes
    assert list(box.book().holes) == [(1, 5)]


def test_correction_times_what_had_no_time_and_leaves_what_was_sent(box: Box) -> None:
    sent = [reading(seq, time_us=None, mono_us=1_000_000 * seq) for seq in range(3)]
    box.commit(delivery(sent[:2]))
    (untimed, *_) = box.look(lambda reader: list(reader.export()))
    assert untimed.time_us is None
    box.commit(delivery(sent[2:], notes=[note("correction", 0, 0, 2, offset_us=T0_US)], number=2))
    rows = box.look(lambda reader: list(reader.export()))
    times = [row.time_us for row in rows if row.point == "temperature"]
    assert times == [T0_US, T0_US + 1_000_000, T0_US + 2_000_000]
    assert box.altered(box.book()) == [], "hashes are of what was sent"
    assert box.commit(delivery(sent, number=3)).duplicates == 3


def test_late_is_what_comes_after_its_hour_had_closed(box: Box) -> None:
    box.commit(delivery([reading(0), reading(300)]))
    done = box.commit(delivery([reading(1), reading(299), reading(301)], number=2))
    assert done.late == 1
    rows = box.look(lambda reader: list(reader.export()))
    assert {row.seq for row in rows if row.late} == {1}


def test_export_keeps_to_device_and_times(box: Box) -> None:
    other = "spiffe://building-1.smart.local/agent/energy-001"
    box.commit(delivery([*map(reading, range(200)), reading(0, device=other, kwh=1.5)]))

    def pick(**bounds: Any) -> list[tuple[str, int]]:
        rows = box.look(lambda reader: list(reader.export(**bounds)))
        return [(row.device, row.seq) for row in rows if row.point in {"temperature", "kwh"}]

    assert pick(device="energy-001") == [("energy-001", 0)]
    low, high = T0_US + 60 * MINUTE_US, T0_US + 63 * MINUTE_US
    assert pick(from_us=low, to_us=high) == [("hvac-001", seq) for seq in (60, 61, 62)]
    assert pick()[:2] == [("energy-001", 0), ("hvac-001", 0)]


def test_values_come_back_as_what_they_were(box: Box) -> None:
    values: dict[str, Any] = {
        "a": 0.1 + 0.2,
        "b": 426.0,
        "c": "on",
        "d": True,
        "e": False,
        "f": 2**60,
        "g": "1",
        "h": -0.5,
    }
    box.commit(delivery([reading(0, **values)]))
    rows = box.look(lambda reader: list(reader.export()))
    found = {row.point: row.value for row in rows}
    assert found == values
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in values.items()
    }


def test_latest_is_the_highest_key_not_the_highest_time(box: Box) -> None:
    stepped = reading(7, time_us=T0_US - 999 * MINUTE_US, temperature=7.0)
    box.commit(delivery([reading(9, temperature=9.0), stepped]))
    latest = box.play(lambda store: store.latest())
    assert [(each.point, each.value) for each in latest] == [("temperature", 9.0)]


def test_history_is_in_order_of_time_and_within_its_bounds(box: Box) -> None:
    box.commit(delivery([reading(seq, temperature=float(seq)) for seq in range(180)]))

    async def ask(store: Store) -> Any:
        low, high = T0_US + 10 * MINUTE_US, T0_US + 130 * MINUTE_US
        query = HistoryQuery(
            device="hvac-001", point="temperature", from_us=low, to_us=high, points_max=500
        )
        return await store.history(query), await store.history(replace(query, point="none"))

    series, none = box.play(ask)
    assert [value for _, value in series.samples] == [float(seq) for seq in range(10, 130)]
    assert (series.unit, series.rows, series.site) == ("Cel", 120, "building-1")
    assert none is None


def test_everything_is_there_after_a_restart(box: Box) -> None:
    first = box.commit(delivery([reading(0)])).receipts[0]
    second = box.commit(delivery([reading(1)], number=2)).receipts[0]
    assert second.store_id == first.store_id
    assert second.commit > first.commit
    assert box.seqs() == [0, 1]


def test_failed_commit_leaves_nothing_and_the_next_one_works(box: Box) -> None:
    class PoisonError(RuntimeError):
        pass

    class Poison(Delivery):
        @property
        def received_us(self) -> int:
            raise PoisonError

    good = delivery([reading(0), reading(1)])
    bad = Poison.__new__(Poison)
    for name in ("site", "gateway", "batch"):
        object.__setattr__(bad, name, getattr(delivery([reading(5)], number=2), name))

    async def play(store: Store) -> None:
        with pytest.raises(PoisonError):
            await store.commit([good, bad])
        assert await store.books() == []
        await store.commit([good])

    box.play(play)
    assert box.seqs() == [0, 1]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=8))
def test_whatever_arrives_in_whatever_order_is_stored_once_and_adds_up(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]
) -> None:
    for kind in KINDS:
        box = Box(kind, tmp_path_factory.mktemp("store") / "store.db")

        async def play(store: Store) -> None:
            for number, group in enumerate(groups):
                await store.commit([delivery(map(reading, group), number=number)])

        box.play(play)
        wanted = RangeSet((seq, seq) for group in groups for seq in group)
        assert box.seqs() == [seq for first, last in wanted for seq in range(first, last + 1)]
        if wanted:
            book = box.book()
            assert book.stored == wanted
            assert box.altered(book) == []


@pytest.mark.parametrize("name", ["occupancy-datatraining.csv", "appliances-energy.csv"])
def test_real_recording_comes_back_value_by_value(box: Box, name: str) -> None:
    rows = recording(name)
    sent = list(recorded(rows, device=DEVICE, epoch=3))
    size = 500

    async def play(store: Store) -> None:
        for at in range(0, len(sent), size):
            part = [reading for reading, _ in sent[at : at + size]]
            await store.commit([delivery(part, number=at)])

    box.play(play)
    stored: dict[int, dict[str, Any]] = {}
    times: dict[int, int | None] = {}
    for row in box.look(lambda reader: list(reader.export())):
        stored.setdefault(row.seq, {})[row.point] = row.value
        times[row.seq] = row.time_us
    assert len(stored) == len(rows) - 1
    for made, texts in sent:
        assert times[made.seq] == made.time_us
        for point, text in texts.items():
            value = stored[made.seq][point]
            assert value == (text if isinstance(value, str) else float(text))


WRITE_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from plantroom.cloud.catalog import STORES
from plantroom.cloud.membership import belongs_by_name
from tests.fakes.deliveries import delivery, reading

async def main():
    store = STORES[sys.argv[1]](Path(sys.argv[2]), belongs_by_name)
    books = await store.books()
    seq = books[0].stored.highest + 1 if books else 0
    while True:
        receipts = (await store.commit([delivery(map(reading, range(seq, seq + 5)))])).receipts
        print(receipts[0].stored[0].last, flush=True)
        seq += 5

asyncio.run(main())
"""


def test_what_was_receipted_survives_kill_9(box: Box) -> None:
    receipted = -1
    for lines in (3, 1, 7, 2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_UNTIL_KILLED, box.kind, str(box.path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout is not None
            for _ in range(lines):
                receipted = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split()
            receipted = int(rest[-1]) if rest else receipted
        book = box.book()
        assert book.stored.covers(0, receipted)
        assert not book.holes
        assert box.altered(book) == []
