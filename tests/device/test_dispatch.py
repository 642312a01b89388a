from pathlib import Path

import pytest

from plantroom.device.dispatch import Dispatch, Parcel, Rules
from plantroom.wire import envelope, senml
from plantroom.wire.envelope import Notes
from plantroom.wire.errors import StorageFullError
from tests.device.stand_ins import middle, open_outbox, taken

MALFORMED, NOT_AUTHORISED, QUOTA = 0x99, 0x87, 0x97
OK, NO_SUBSCRIBERS = 0x00, 0x10


class Air:
    """A dispatch and the packet ids of what it has sent."""

    def __init__(self, path: Path, *, rules: Rules | None = None, **limits: int) -> None:
        self.outbox = open_outbox(path / "o.db", None, **limits)
        self.dispatch = Dispatch(self.outbox, rules or Rules(), uniform=middle)
        self.now_s = 100.0
        self.mid = 0
        self.parcels: dict[int, Parcel] = {}

    def put(self, *values: float) -> None:
        self.outbox.append(taken(*values))

    def send(self) -> list[list[float]]:
        """Publish everything that may be published now; return the values of each pack."""
        packs = []
        while (parcel := self.dispatch.next(self.now_s)) is not None:
            self.mid += 1
            self.parcels[self.mid] = parcel
            self.dispatch.aloft(self.mid, parcel, self.now_s)
            packs.append([float(r.points[0].value) for r in parcel.readings])
        return packs

    def answer(self, mid: int, code: int) -> None:
        self.dispatch.answered(mid, code, self.now_s)


def test_packs_are_cut_to_size_and_to_the_window(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(batch_readings=2, window=2))
    air.put(*range(5))
    assert air.send() == [[0, 1], [2, 3]]
    air.answer(1, OK)
    assert air.send() == [[4]]
    assert air.outbox.counts.sent == 2
    air.outbox.close()


@pytest.mark.parametrize("code", [OK, NO_SUBSCRIBERS])
def test_answer_below_0x80_marks_readings_sent(tmp_path: Path, code: int) -> None:
    air = Air(tmp_path)
    air.put(1, 2)
    air.send()
    air.answer(1, code)
    assert (air.outbox.counts.sent, air.outbox.counts.waiting) == (2, 0)
    assert air.dispatch.idle
    assert air.dispatch.acknowledged_total == 2
    air.outbox.close()


def test_refused_pack_is_kept_waits_and_is_sent_again_in_halves(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(window=1))
    air.put(*range(8))
    assert air.send() == [list(range(8))]
    air.answer(1, QUOTA)
    assert air.send() == []  # it waits
    assert air.outbox.counts.unsent == 8
    air.now_s += 60
    assert air.send() == [[0, 1, 2, 3]]
    air.answer(2, QUOTA)
    air.now_s += 60
    assert air.send() == [[0, 1]]
    air.answer(3, OK)
    assert air.send() == [[2, 3, 4, 5]]  # and grows again
    assert air.dispatch.refused_total == {QUOTA: 2}
    air.outbox.close()


def test_waits_after_refusals_grow(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(window=1))
    air.put(1)
    waits = []
    for mid in range(1, 5):
        begun_s = air.now_s
        while not air.send():
            air.now_s += 0.05
        waits.append(air.now_s - begun_s)
        air.answer(mid, QUOTA)
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[1]
    air.outbox.close()


def test_reading_refused_for_its_own_sake_is_parked_and_the_next_go_ahead(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(window=1, batch_readings=1, parked_retry_s=300))
    air.put(1, 2)
    air.send()
    air.answer(1, MALFORMED)
    assert air.outbox.counts.parked == 1
    assert air.send() == [[2]]  # at once
    air.answer(2, OK)
    assert air.send() == []
    air.now_s += 301
    assert air.send() == [[1]]  # tried again, slowly
    air.answer(3, MALFORMED)
    assert air.send() == []
    air.now_s += 301
    assert air.send() == [[1]]
    air.answer(4, OK)
    assert (air.outbox.counts.parked, air.outbox.counts.sent) == (0, 2)
    air.outbox.close()


@pytest.mark.parametrize("code", [NOT_AUTHORISED, QUOTA])
def test_reading_refused_for_another_reason_is_not_parked(tmp_path: Path, code: int) -> None:
    air = Air(tmp_path, rules=Rules(window=1, batch_readings=1))
    air.put(1)
    air.send()
    air.answer(1, code)
    assert (air.outbox.counts.parked, air.outbox.counts.unsent) == (0, 1)
    air.outbox.close()


def test_the_one_bad_reading_of_a_pack_is_found(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(window=1))
    air.put(*range(8))
    for _ in range(60):
        air.now_s += 61
        if not air.send():
            break
        values = [r.points[0].value for r in air.parcels[air.mid].readings]
        air.answer(air.mid, MALFORMED if 5 in values else OK)
    assert (air.outbox.counts.parked, air.outbox.counts.sent) == (1, 7)
    assert [r.points[0].value for r in air.outbox.waiting(9)] == [5]
    air.outbox.close()


def test_parked_readings_are_tried_in_turn(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(window=1, batch_readings=1))
    air.put(1, 2, 3)
    for mid in range(1, 4):
        air.send()
        air.answer(mid, MALFORMED)
    air.send()
    tried = []
    for _ in range(4):
        air.now_s += 301
        tried += air.send()
        air.answer(air.mid, MALFORMED)
    assert tried == [[1], [2], [3], [1]]
    air.outbox.close()


def test_lost_connection_takes_everything_out_of_the_air(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(batch_readings=1))
    air.put(1, 2)
    assert air.send() == [[1], [2]]
    air.dispatch.lost()
    assert air.dispatch.in_the_air == 0
    air.answer(1, OK)  # too late: it says nothing about what is sent next
    assert air.outbox.counts.sent == 0
    assert air.send() == [[1], [2]]
    air.outbox.close()


def test_connection_that_goes_while_a_pack_is_published_takes_nothing_with_it(
    tmp_path: Path,
) -> None:
    air = Air(tmp_path)
    air.put(1, 2)
    assert air.dispatch.next(air.now_s) is not None  # and the publish fails: `aloft` never follows
    air.dispatch.lost()
    assert air.send() == [[1, 2]]
    air.outbox.close()


@pytest.mark.parametrize("code", [OK, MALFORMED])
def test_answer_that_cannot_be_written_down_leaves_the_readings_to_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(_readings: object) -> None:
        raise StorageFullError("no space left", where="outbox")

    air = Air(tmp_path)
    air.put(1)
    air.send()
    with monkeypatch.context() as patched:
        patched.setattr(air.outbox, "sent", full)
        patched.setattr(air.outbox, "park", full)
        with pytest.raises(StorageFullError):
            air.answer(1, code)
    assert air.send() == [[1]]
    air.outbox.close()


def test_answer_to_something_else_changes_nothing(tmp_path: Path) -> None:
    air = Air(tmp_path)
    air.put(1)
    air.send()
    air.answer(99, OK)
    assert air.outbox.counts.unsent == 1
    air.outbox.close()


def test_tombstones_go_first_and_alone_and_are_kept_until_acknowledged(tmp_path: Path) -> None:
    air = Air(tmp_path, readings_max=2)
    air.put(1, 2, 3, 4)
    assert air.send() == [[], [3, 4]]
    parcel = air.parcels[1]
    (note,) = envelope.decode(parcel.payload, Notes).notes
    assert (note.first, note.last) == (0, 1)
    assert parcel.span == f"{air.outbox.epoch}/0/1"
    assert parcel.content_type == envelope.CONTENT_TYPE
    air.answer(1, QUOTA)
    assert air.send() == []
    air.now_s += 61
    assert air.send() == [[]]
    air.answer(3, OK)
    assert air.outbox.counts.notes == 0
    assert not air.dispatch.idle
    air.answer(2, OK)
    assert air.dispatch.idle
    air.outbox.close()


def test_pack_names_its_range_and_can_be_decoded(tmp_path: Path) -> None:
    air = Air(tmp_path)
    air.put(1, 2, 3)
    air.send()
    parcel = air.parcels[1]
    assert parcel.span == f"{air.outbox.epoch}/0/2"
    assert parcel.content_type == senml.CONTENT_TYPE
    assert senml.decode(parcel.payload).readings == parcel.readings
    air.outbox.close()


def test_pack_may_wait_to_become_full(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(batch_readings=3, linger_s=10))
    air.put(1)
    assert air.send() == []
    air.now_s += 9
    air.put(2)
    assert air.send() == []
    air.now_s += 1
    assert air.send() == [[1, 2]]
    air.put(3)
    assert air.send() == []  # three are unsent, but two of them are in the air
    air.put(4, 5)
    assert air.send() == [[3, 4, 5]]
    air.outbox.close()


def test_hurry_ends_every_wait(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(batch_readings=1, window=1, linger_s=50))
    air.put(1)
    air.dispatch.hurry(air.now_s)
    assert air.send() == [[1]]
    air.answer(1, MALFORMED)
    assert air.send() == []
    air.dispatch.hurry(air.now_s)
    assert air.send() == [[1]]
    air.outbox.close()


def test_limits_of_the_other_end_are_kept(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(batch_readings=10, window=8))
    air.put(*range(6))
    size = len(senml.encode(air.outbox.waiting(1)))
    air.dispatch.begin(window=2, bytes_max=2 * size + 5)
    assert air.send() == [[0, 1], [2, 3]]
    air.outbox.close()


def test_reading_larger_than_any_packet_is_parked_not_sent(tmp_path: Path) -> None:
    air = Air(tmp_path)
    air.put(1)
    air.dispatch.begin(window=9, bytes_max=10)
    assert air.send() == []
    assert air.outbox.counts.parked == 1
    assert air.dispatch.refused_total == {0x95: 1}
    air.outbox.close()


def test_oldest_wait_is_known(tmp_path: Path) -> None:
    air = Air(tmp_path, rules=Rules(batch_readings=1))
    assert air.dispatch.waits_s(air.now_s) == 0
    air.put(1)
    air.send()
    air.now_s += 5
    air.put(2)
    air.send()
    assert air.dispatch.waits_s(air.now_s) == 5
    air.outbox.close()
