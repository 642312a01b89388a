import pytest

from plantroom.device import updater_record
from plantroom.device.updater_record import BAD_AFTER, Image, Outcome, Record
from plantroom.wire import cbor
from plantroom.wire.errors import StorageCorruptError

OLD = Image(slot="a", sequence=4, version="1.4", release=b"o" * 32, digest=b"d" * 32, image_bytes=9)
NEW = Image(slot="b", sequence=5, version="1.5", release=b"n" * 32, digest=b"e" * 32, image_bytes=9)


def test_a_record_is_read_as_it_was_written() -> None:
    record = Record(
        active=OLD,
        previous=Image(version="1.0"),
        trial=NEW,
        left=2,
        bad={"00": 1},
        last=Outcome(state="UPDATED", image=OLD, text="well"),
        boots=7,
    )
    assert updater_record.decode(updater_record.encode(record), "x") == record


@pytest.mark.parametrize(
    "data", [b"", b"\xa0", cbor.dumps({"v": 2}), cbor.dumps({"v": 1, "active": 5}), b"\xff" * 70000]
)
def test_anything_else_is_corrupt(data: bytes) -> None:
    with pytest.raises(StorageCorruptError):
        updater_record.decode(data, "x")


def test_a_trial_ends_behind_its_last_boot() -> None:
    record = updater_record.tried(Record(active=OLD), NEW, boots=1)
    record, runs = updater_record.booted(record)
    assert runs == NEW
    record, runs = updater_record.booted(record)
    assert runs == OLD
    assert record.boots == 2
    assert record.trial is None


def test_a_release_is_bad_after_two_failed_trials_or_one_that_says_so() -> None:
    record = Record(active=OLD)
    for number in range(BAD_AFTER):
        assert NEW.release not in record.known_bad, number
        record = updater_record.failed(updater_record.tried(record, NEW, 1), "no contact")
    assert NEW.release in record.known_bad
    once = updater_record.failed(
        updater_record.tried(Record(active=OLD), NEW, 1), "", for_good=True
    )
    assert NEW.release in once.known_bad


def test_the_memory_of_bad_releases_is_bounded_and_keeps_the_newest() -> None:
    record = Record(active=OLD)
    for number in range(100):
        record = updater_record.condemned(record, bytes([number]) * 32)
    assert len(record.bad) == 64
    assert bytes([99]) * 32 in record.known_bad


def test_without_a_trial_nothing_is_proven_or_failed() -> None:
    record = Record(active=OLD)
    assert updater_record.proven(record) == record
    assert updater_record.failed(record, "") == record


def test_slots_take_turns() -> None:
    assert Record(active=Image()).spare_slot == "a"
    assert Record(active=OLD).spare_slot == "b"
    assert Record(active=NEW).spare_slot == "a"
    assert updater_record.slot_file("a") == "slot-a"
