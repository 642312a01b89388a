import sqlite3

import pytest

from plantroom.broker import catalog
from plantroom.gateway import tables
from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.gateway.tables import Life
from plantroom.lab import ledger, quarantine
from plantroom.lab.layout import Layout
from plantroom.wire import apart
from plantroom.wire.errors import CheckFailedError, UsageError
from plantroom.wire.sqlite import connect
from tests.fakes.gateway_rig import FastClock
from tests.fakes.readings import HVAC, hvac_reading
from tests.fakes.stored import put

LIFE = Life(incarnation=1, clock=FastClock(), random_bits=lambda bits: bits)


def set_apart(layout: Layout, raw: bytes, *, bytes_max: int = 10_000) -> None:
    connection = connect(layout.queue, catalog.MIGRATIONS | MIGRATIONS)
    tables.quarantine(
        connection,
        LIFE,
        HVAC,
        (7, 0, 0),
        reason="unreadable",
        text="the cloud cannot read it",
        digest=b"h" * 32,
        raw=raw,
        bytes_max=bytes_max,
    )
    connection.close()


def test_nothing_is_listed_where_nothing_has_run(layout: Layout) -> None:
    assert quarantine.listed(layout) == []
    with pytest.raises(UsageError, match="gateway:1"):
        quarantine.one(layout, "gateway:1")


def test_both_quarantines_are_listed_and_a_replay_is_queued(layout: Layout) -> None:
    set_apart(layout, hvac_reading(0).canonical())
    put(layout.store, hvac_reading(0))
    put(layout.store, hvac_reading(0, epoch=7), hvac_reading(1))
    with sqlite3.connect(layout.store) as connection:
        connection.execute(
            "INSERT INTO quarantine(device, epoch, seq, hash, site, reason, at_us, raw)"
            " VALUES(?, 7, 2, ?, 'building-1', 'x', 1, ?)",
            (HVAC, hvac_reading(2).hash(), hvac_reading(2).canonical()),
        )
        apart.count(connection, HVAC, 7, 2, 2)
    connection.close()
    below, above = quarantine.listed(layout)
    assert (below.name, below.item.reason) == ("gateway:1", "unreadable")
    assert above.name == f"cloud:{hvac_reading(2).hash().hex()[:12]}"
    raw = quarantine.raw(layout, below)
    assert raw is not None
    assert quarantine.content(raw)["reading"]["seq"] == 0
    assert quarantine.replay(layout, below) == 1
    assert quarantine.replay(layout, above) == 1
    assert {found.item.outcome for found in quarantine.listed(layout)} == {"replayed"}
    (account,) = ledger.verify(layout)
    assert account.closes


def test_a_replay_that_is_refused_changes_nothing(layout: Layout) -> None:
    set_apart(layout, b"\xff no reading")
    (found,) = quarantine.listed(layout)
    with pytest.raises(CheckFailedError, match="refused again"):
        quarantine.replay(layout, found)
    assert quarantine.listed(layout) == [found]
    assert quarantine.content(b"\xff no reading")["kind"] == "bytes"


def test_a_drop_stays_on_record(layout: Layout) -> None:
    set_apart(layout, b"xx")
    (found,) = quarantine.listed(layout)
    quarantine.drop(layout, found, "a test")
    (found,) = quarantine.listed(layout)
    assert found.item.outcome == "dropped: a test"
    assert quarantine.raw(layout, found) is None
