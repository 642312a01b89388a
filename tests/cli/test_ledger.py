import json
import sqlite3
from pathlib import Path

import pytest

from plantroom.lab.layout import Layout
from tests.cli.conftest import Run
from tests.fakes.readings import HVAC, hvac_reading
from tests.fakes.stored import put


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Layout(tmp_path / "state").store


def test_a_whole_book_closes(run: Run, store: Path) -> None:
    put(store, *map(hvac_reading, range(5)))
    verified = run("ledger", "verify")
    assert (verified.code, verified.out) == (0, "")
    assert json.loads(run("ledger", "verify", "--json").out)["closes"] is True
    (book,) = json.loads(run("ledger", "show", "--json").out)["books"]
    assert (book["device"], book["epoch"], book["closes"]) == (HVAC, 7, True)
    assert (book["cloud"]["first"], book["cloud"]["last"], book["cloud"]["count"]) == (0, 4, 5)
    assert "hvac-001" in run("ledger", "show").out
    assert json.loads(run("ledger", "export").out) == book


def test_a_hole_is_named_by_device_epoch_and_range(run: Run, store: Path) -> None:
    put(store, *map(hvac_reading, (0, 1, 4)), highest=6)
    ran = run("ledger", "verify")
    assert ran.code == 1
    assert f"{HVAC} epoch 7 seq 2 to 3: neither queued nor stored" in ran.out
    assert f"{HVAC} epoch 7 seq 2 to 3" in ran.err
    assert ran.err.count("\n") == 1
    report = json.loads(run("ledger", "verify", "--json").out)
    assert [(fault["first"], fault["last"]) for fault in report["faults"]] == [(2, 3)]
    assert report["at_sensors"] == 2
    put(store, hvac_reading(0, epoch=8))
    faults = json.loads(run("ledger", "verify", "--json").out)["faults"]
    assert [(fault["first"], fault["last"]) for fault in faults] == [(2, 3), (5, 6)]


def test_a_changed_value_is_found(run: Run, store: Path) -> None:
    put(store, *map(hvac_reading, range(5)))
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE r SET value = 22.5 WHERE seq = 3 AND value = 24.5")
        assert connection.total_changes == 1
    connection.close()
    ran = run("ledger", "verify")
    assert ran.code == 1
    assert "altered" in ran.out


def test_a_store_that_was_restored_is_named_anew(run: Run, store: Path) -> None:
    assert run("ledger", "renew-store").code != 0
    put(store, hvac_reading(0))
    ran = run("ledger", "renew-store", "--json")
    assert ran.code == 0
    said = json.loads(ran.out)
    assert said["former"] != said["store_id"]
    assert run("ledger", "verify").code == 0


def test_closed_books_of_earlier_epochs_share_a_line(run: Run, store: Path) -> None:
    for epoch in range(7, 14):
        put(store, *(hvac_reading(seq, epoch=epoch) for seq in range(3)), epoch=epoch)
    put(store, hvac_reading(2, epoch=14), epoch=14)  # with a hole: it is shown
    put(store, hvac_reading(0, epoch=15), epoch=15)
    lines = run("ledger", "show").out.splitlines()
    assert len(lines) == 1 + 1 + 3
    assert "6 epochs" in lines[1]
    assert " 18 " in lines[1]
    assert len(run("ledger", "show", "--all").out.splitlines()) == 1 + 9
    assert len(json.loads(run("ledger", "show", "--json").out)["books"]) == 9
