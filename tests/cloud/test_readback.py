from pathlib import Path

from plantroom.cloud import readback
from plantroom.cloud.readback import CHUNK_SEQS
from tests.fakes.deliveries import T0_US, delivery, reading
from tests.fakes.store_tables import tables


def test_readings_come_back_as_sent_across_chunks_and_jumps_in_time(tmp_path: Path) -> None:
    sent = [
        *[reading(seq) for seq in range(CHUNK_SEQS + 5)],
        reading(CHUNK_SEQS + 5, time_us=None, mono_us=7),
        reading(CHUNK_SEQS + 6, time_us=T0_US + 10**15, mono_us=8),
        reading(CHUNK_SEQS + 7, time_us=T0_US - 10**14),
    ]
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery(sent[1::2], number=1)])
        writer.apply(connection, [delivery(sent[::2], number=2)])
        (ref,) = readback.book_refs(connection)
        assert list(readback.readings_of(connection, ref)) == sent
        part = [each.seq for each in readback.readings_of(connection, ref, 10, 12)]
    assert part == [10, 11, 12]


def test_row_that_makes_no_reading_any_more_is_left_out(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([reading(0), reading(1)])])
        connection.execute("UPDATE series SET point = '/bad name' WHERE point = 'temperature'")
        (ref,) = readback.book_refs(connection)
        assert list(readback.readings_of(connection, ref)) == []


def test_only_buckets_that_exist_are_visited(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        far = reading(1, time_us=T0_US + 3_600_000_000 * 10**5)
        writer.apply(connection, [delivery([reading(0), far])])
        found = list(readback.buckets(connection, -1, 10**9))
    assert found == [T0_US // 3_600_000_000, T0_US // 3_600_000_000 + 10**5]


def test_truth_is_no_number_and_no_text() -> None:
    for value in (True, False, 0.0, 1.0, "1", "true", 2**60):
        back = readback.value_of(readback.stored_value(value))
        assert (back, type(back)) == (value, type(value))
