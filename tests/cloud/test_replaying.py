from pathlib import Path

import pytest

from plantroom.cloud import book_tables, quarantine, replaying
from plantroom.wire.errors import CheckFailedError
from tests.fakes.deliveries import DEVICE, T0_US, delivery, reading
from tests.fakes.store_tables import tables


def test_a_reading_that_is_good_after_all_is_stored_and_its_book_closes(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([reading(0), reading(2)])])
        quarantine.Quarantine(1000).add(connection, delivery(), reading(1), "out-of-range")
        (item,) = quarantine.items(connection)
        assert replaying.replay(connection, item, T0_US) == 1
        (book,) = book_tables.stored_books(connection, [DEVICE])
        assert list(book.stored) == [(0, 2)]
        (item,) = quarantine.items(connection)
        assert (item.outcome, item.size) == ("replayed", None)
        with pytest.raises(CheckFailedError, match="already"):
            replaying.replay(connection, item, T0_US)


def test_what_still_breaks_a_rule_stays_there(tmp_path: Path) -> None:
    foreign = reading(0, device="spiffe://building-2.smart.local/agent/hvac-001")
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([reading(0), foreign])])
        writer.apply(connection, [delivery([reading(0, temperature=99.0)], number=2)])
        items = quarantine.items(connection)
        assert sorted(item.reason for item in items) == ["epoch-reuse", "foreign-device"]
        for item in items:
            with pytest.raises(CheckFailedError, match=f"refused again, {item.reason}"):
                replaying.replay(connection, item, T0_US)
        assert quarantine.items(connection) == items


def test_what_is_dropped_keeps_its_key_and_the_reason(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, _):
        quarantine.Quarantine(1000).add(connection, delivery(), reading(1), "x")
        (item,) = quarantine.items(connection)
        assert quarantine.raw(connection, item) == reading(1).canonical()
        quarantine.drop(connection, item, "a test", 7)
        (item,) = quarantine.items(connection)
        assert (item.outcome, item.outcome_us, item.first) == ("dropped: a test", 7, 1)
        assert quarantine.raw(connection, item) is None
        with pytest.raises(CheckFailedError, match="dropped"):
            quarantine.drop(connection, item, "again", 8)
        with pytest.raises(CheckFailedError, match="dropped"):
            replaying.replay(connection, item, T0_US)
