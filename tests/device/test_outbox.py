import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from plantroom.device.driver import Taken
from plantroom.device.outbox import EPOCHS_KEPT, Outbox, next_epoch
from plantroom.device.ring import SENT
from plantroom.wire.errors import StorageCorruptError, StorageFullError
from plantroom.wire.reading import KEY_MAX, Reading
from plantroom.wire.sqlite import set_aside
from tests.device.stand_ins import DEVICE, NOW_US, FakeClock, open_outbox, sample, taken


def test_readings_are_numbered_without_holes_and_survive_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    first = open_outbox(tmp_path / "o.db", clock)
    assert [r.seq for r in first.append(taken(1, 2)).readings] == [0, 1]
    assert [r.seq for r in first.append(taken(3)).readings] == [2]
    first.close()
    second = open_outbox(tmp_path / "o.db", clock)
    waiting = second.waiting(10)
    assert [(r.epoch, r.seq) for r in waiting] == [(first.epoch, n) for n in range(3)]
    assert [r.points[0].value for r in waiting] == [1, 2, 3]
    assert all(r.device == DEVICE for r in waiting)
    assert second.counts.unsent == 3
    assert second.heads() == {first.epoch: 2}
    second.close()


def test_every_start_is_a_new_and_higher_epoch(tmp_path: Path) -> None:
    clock, epochs = FakeClock(), []
    for _ in range(5):
        outbox = open_outbox(tmp_path / "o.db", clock)
        epochs.append(outbox.epoch)
        outbox.close()
        clock.wall -= 3_600_000_000  # a clock that steps back changes nothing
    assert epochs == sorted(set(epochs))


def test_epoch_follows_the_clock_only_when_it_can_be_right() -> None:
    assert next_epoch(0, NOW_US, lambda _bits: 5) == (NOW_US // 1_000_000) << 20 | 5
    assert next_epoch(0, 7_000_000, lambda _bits: 5) == 1 << 20 | 5
    assert next_epoch(9 << 20 | 3, 0, lambda _bits: 0) == 10 << 20
    far = (KEY_MAX >> 20) + 1
    assert next_epoch(0, far * 1_000_000, lambda _bits: 0) == 1 << 20  # year 2242: no such clock


def test_position_commits_with_its_reading(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    assert outbox.position is None
    outbox.append(taken(1, position="a"))
    outbox.append([Taken(sample=None, position="end")])
    assert outbox.position == "end"
    outbox.close()
    again = open_outbox(tmp_path / "o.db")
    assert again.position == "end"
    assert again.counts.unsent == 1
    again.close()


def test_what_may_not_displace_is_kept_only_as_far_as_it_fits(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db", readings_max=2)
    three = [Taken(sample=sample(n), position=str(n)) for n in range(3)]
    stored = outbox.append(three, displace=False)
    assert [r.points[0].value for r in stored.readings] == [0, 1]
    assert stored.consumed == 2
    assert outbox.position == "1"
    assert outbox.room == 0
    outbox.sent(outbox.take(1, 10**6))
    assert outbox.room == 1
    assert outbox.append(three[2:], displace=False).consumed == 1
    assert outbox.counts.evicted == {}
    outbox.close()


def test_acknowledged_readings_stay_until_their_room_is_needed(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db", readings_max=3)
    outbox.append(taken(1, 2, 3))
    outbox.sent(outbox.take(3, 10**6))
    assert (outbox.counts.sent, outbox.counts.waiting) == (3, 0)
    outbox.append(taken(4, 5))
    assert (outbox.counts.sent, outbox.counts.unsent) == (1, 2)
    outbox.close()


def test_tombstones_survive_a_restart_and_go_when_acknowledged(tmp_path: Path) -> None:
    clock = FakeClock()
    outbox = open_outbox(tmp_path / "o.db", clock, readings_max=1)
    outbox.append(taken(1, 2, 3))
    outbox.close()
    again = open_outbox(tmp_path / "o.db", clock, readings_max=1)
    (note,) = again.notes()
    assert (note.life, note.epoch, note.first, note.last) == (outbox.epoch, outbox.epoch, 0, 1)
    again.append(taken(4))
    assert {n.life for n in again.notes()} == {outbox.epoch, again.epoch}
    again.notes_sent(again.notes())
    assert again.counts.notes == 0
    assert again.notes() == ()
    again.close()


def test_tombstones_are_handed_out_one_epoch_at_a_time(tmp_path: Path) -> None:
    clock = FakeClock()
    first = open_outbox(tmp_path / "o.db", clock, readings_max=1)
    first.append(taken(1, 2))
    first.close()
    second = open_outbox(tmp_path / "o.db", clock, readings_max=1)
    second.append(taken(3, 4))  # evicts the last of the first epoch, and one of its own
    assert [{n.epoch for n in second.notes()} for _ in range(2)] == [{first.epoch}] * 2
    second.notes_sent(second.notes())
    assert {n.epoch for n in second.notes()} == {second.epoch}
    second.close()


def test_age_is_running_time_over_all_lives(tmp_path: Path) -> None:
    clock = FakeClock()
    outbox = open_outbox(tmp_path / "o.db", clock, age_s_max=100)
    outbox.append(taken(1))
    clock.pass_s(60)
    outbox.append(taken(2))
    outbox.close()
    clock.wall += 10**13  # off for months, clock far ahead, monotonic clock back at its start
    clock.mono = 0
    again = open_outbox(tmp_path / "o.db", clock, age_s_max=100)
    clock.pass_s(30)
    again.append(taken(3))
    assert again.counts.evicted == {}
    clock.pass_s(20)
    again.append(taken(4))
    assert again.counts.evicted == {"age": 1}
    again.close()


def test_old_epochs_are_forgotten_but_not_those_with_readings(tmp_path: Path) -> None:
    clock = FakeClock()
    first = open_outbox(tmp_path / "o.db", clock)
    first.append(taken(1))
    first.close()
    for _ in range(EPOCHS_KEPT + 5):
        outbox = open_outbox(tmp_path / "o.db", clock)
        epoch = outbox.epoch
        if outbox.counts.held < 3:
            outbox.append(taken(2))
        outbox.close()
    last = open_outbox(tmp_path / "o.db", clock)
    assert first.epoch in last.heads()
    db = sqlite3.connect(tmp_path / "o.db")
    (rows,) = db.execute("SELECT COUNT(*) FROM epoch").fetchone()
    db.close()
    assert rows <= EPOCHS_KEPT + 4
    assert epoch < last.epoch
    last.close()


def test_watchers_hear_of_every_change_and_may_look(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    seen: list[int] = []
    outbox.watch(lambda: seen.append(outbox.counts.unsent))
    outbox.append(taken(1, 2))
    outbox.sent(outbox.take(1, 10**6))
    assert seen == [2, 1]
    outbox.close()


def test_full_disk_keeps_nothing_and_harms_nothing(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    outbox.append(taken(1))
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count={pages}")
    big = [Taken(sample=sample(2, text="x" * 1000), position="p") for _ in range(50)]
    with pytest.raises(StorageFullError):
        outbox.append(big)
    assert (outbox.counts.unsent, outbox.position) == (1, None)
    outbox._db.execute("PRAGMA max_page_count=1073741823")
    assert [r.seq for r in outbox.append(big).readings] == list(range(1, 51))
    outbox.close()


def test_damaged_file_is_named_and_can_be_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    outbox = open_outbox(path)
    outbox.append(taken(*range(200)))
    outbox.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 4] = b"\xa5" * 8192
    path.write_bytes(data)
    with pytest.raises(StorageCorruptError, match=r"o\.db"):
        open_outbox(path)
    aside = set_aside(path, "1795363200")
    assert aside.name == "o.db.damaged-1795363200"
    assert aside.read_bytes() == data
    fresh = open_outbox(path)
    assert fresh.counts.held == 0
    fresh.close()


# Inserts as fast as it can, and says on stdout what was committed; killed from outside.
_WRITER = """
import sys
from pathlib import Path
from plantroom.device.driver import Taken
from tests.device.stand_ins import open_outbox, sample, FakeClock
outbox = open_outbox(Path(sys.argv[1]), FakeClock(), readings_max=100000)
row = int(outbox.position or 0)
print("epoch", outbox.epoch, flush=True)
while True:
    one = [Taken(sample=sample(row + n), position=str(row + n + 1)) for n in range(3)]
    outbox.append(one)
    row += 3
    print(row, flush=True)
"""


def test_kill_9_during_inserts_reuses_no_seq_and_leaves_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    said = 0
    for turn in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(3 + 7 * turn):
                line = writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().splitlines()
        said = int([word for word in (line.strip(), *rest) if word.isdecimal()][-1])
    outbox = open_outbox(path, readings_max=100000)
    readings = outbox.waiting(100000)
    assert [r.points[0].value for r in readings] == list(range(len(readings)))  # rows, in order
    assert said <= len(readings) <= said + 3
    assert int(outbox.position or 0) == len(readings)
    by_epoch: dict[int, list[int]] = {}
    for reading in readings:
        by_epoch.setdefault(reading.epoch, []).append(reading.seq)
    assert all(seqs == list(range(len(seqs))) for seqs in by_epoch.values())
    assert outbox.heads() == {epoch: seqs[-1] for epoch, seqs in by_epoch.items()}
    outbox.close()


class RingMachine(RuleBasedStateMachine):
    """Every reading ever taken is waiting, acknowledged, or named by exactly one tombstone."""

    @initialize(readings_max=st.integers(1, 6), age_s_max=st.sampled_from([0, 5]))
    def begin(self, readings_max: int, age_s_max: int) -> None:
        self.limits = {"readings_max": readings_max, "age_s_max": age_s_max}
        self.clock = FakeClock()
        self.path = Path(f"file-{id(self)}")
        self.taken: set[tuple[int, int]] = set()
        self.acknowledged: set[tuple[int, int]] = set()
        self.tombs: dict[tuple[int, int], tuple[int, int, int]] = {}  # acknowledged ones
        self.seen: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.air: list[tuple[Reading, ...]] = []
        self.folder = _Folder()
        self.outbox = self.opened()

    def opened(self) -> Outbox:
        return open_outbox(self.folder.path / "o.db", self.clock, **self.limits)

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        stored = self.outbox.append(taken(*range(count)))
        self.taken |= {(r.epoch, r.seq) for r in stored.readings}
        assert stored.consumed == count

    @rule(count=st.integers(1, 4))
    def append_without_displacing(self, count: int) -> None:
        before = self.outbox.counts.evicted.get("full", 0)
        room = self.outbox.room
        stored = self.outbox.append(taken(*range(count)), displace=False)
        self.taken |= {(r.epoch, r.seq) for r in stored.readings}
        assert len(stored.readings) == min(count, room)
        assert self.outbox.counts.evicted.get("full", 0) == before

    @rule(count=st.integers(1, 3))
    def take(self, count: int) -> None:
        run = self.outbox.take(count, 10**6)
        if run:
            assert [r.seq for r in run] == list(range(run[0].seq, run[0].seq + len(run)))
            assert len({r.epoch for r in run}) == 1
            self.air.append(run)

    @rule(outcome=st.sampled_from(["sent", "refused", "parked"]))
    def answer(self, outcome: str) -> None:
        if not self.air:
            return
        run = self.air.pop(0)
        if outcome == "sent":
            self.outbox.sent(run)
            self.acknowledged |= {(r.epoch, r.seq) for r in run}
        elif outcome == "refused":
            self.outbox.untake(run)
        else:
            self.outbox.park(run)

    @rule()
    def send_notes(self) -> None:
        for note in self.outbox.notes():
            key, span = (note.life, note.number), (note.epoch, note.first, note.last)
            assert self.seen.setdefault(key, span) == span  # same number, same content

    @rule()
    def acknowledge_notes(self) -> None:
        notes = self.outbox.notes()
        self.send_notes()
        self.outbox.notes_sent(notes)
        self.tombs |= {(n.life, n.number): (n.epoch, n.first, n.last) for n in notes}

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.clock.pass_s(seconds)

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.air.clear()
        self.outbox = self.opened()

    @invariant()
    def every_reading_is_accounted_for(self) -> None:
        waiting = {(r.epoch, r.seq) for r in self.outbox.waiting(1000)}
        db = self.outbox._db
        notes = db.execute("SELECT epoch, first, last FROM note").fetchall()
        entombed = [
            (epoch, seq)
            for epoch, first, last in [*notes, *self.tombs.values()]
            for seq in range(first, last + 1)
        ]
        assert len(entombed) == len(set(entombed))
        assert not waiting & set(entombed)
        assert self.taken == waiting | set(entombed) | self.acknowledged
        assert not waiting & self.acknowledged
        assert self.outbox.counts.held <= self.limits["readings_max"]
        rows = db.execute("SELECT COUNT(*) FROM reading WHERE state <> ?", (SENT,)).fetchone()
        assert rows == (self.outbox.counts.waiting,)
        assert self.outbox.counts.notes == len(notes)

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.close()
            self.folder.remove()


class _Folder:
    def __init__(self) -> None:
        import tempfile

        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name)

    def remove(self) -> None:
        self._folder.cleanup()


RingMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestRing = RingMachine.TestCase
