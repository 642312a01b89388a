import dataclasses
from collections.abc import Iterable

import pytest

from plantroom.lab import ledger
from plantroom.lab.audit import Account, Page, compare
from plantroom.lab.layout import Layout
from plantroom.lab.replayed import REST_S, Replayed
from plantroom.wire.errors import CheckFailedError, StorageError
from plantroom.wire.ranges import RangeSet
from tests.lab.conftest import DEVICES, Answers, latest

DEVICE = dataclasses.replace(DEVICES[0], replay="/room.csv")
DONE = {"replay": "done", "rows": "5"}


@pytest.fixture
def replayed(layout: Layout, web: Answers) -> Replayed:
    return Replayed(layout, web.port, (DEVICE, DEVICES[1]))


def page(stored: Iterable[tuple[int, int]], excused: Iterable[tuple[int, int]] = ()) -> Page:
    return Page(
        device=str(DEVICE.spiffe_id),
        epoch=7,
        highest=4,
        held=RangeSet(stored),
        excused=RangeSet(excused),
    )


def given(monkeypatch: pytest.MonkeyPatch, gateway: Iterable[Page], cloud: Iterable[Page]) -> None:
    accounts: tuple[Account, ...] = compare(gateway, cloud)
    monkeypatch.setattr(ledger, "accounts", lambda _layout: accounts)


def test_it_is_not_stored_before_the_recording_is_over(replayed: Replayed, web: Answers) -> None:
    said: list[str] = []
    assert not replayed.is_stored(said.append)
    web.by_path["/api/latest"] = latest((DEVICE.name, True, {"replay": "running"}))
    assert not replayed.is_stored(said.append)
    assert said[-1] == "0 rows taken, 0 of 1 replays over"


def test_it_is_stored_once_every_row_is(
    replayed: Replayed, web: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.by_path["/api/latest"] = latest((DEVICE.name, True, DONE))
    given(monkeypatch, [page([(0, 4)])], [page([(0, 2)])])
    assert not replayed.is_stored(lambda _text: None)
    given(monkeypatch, [page([(0, 4)])], [page([(0, 4)])])
    assert replayed.is_stored(lambda _text: None)


def test_a_book_that_does_not_close_is_waited_for_as_long_as_that_may_help(
    layout: Layout, web: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    replayed = Replayed(layout, web.port, (DEVICE,), now_s=lambda: now[0])
    web.by_path["/api/latest"] = latest((DEVICE.name, True, DONE))

    def look(at_s: float, cloud: Iterable[Page], gateway: Iterable[Page] = ()) -> bool:
        now[0] = at_s
        given(monkeypatch, gateway, cloud)
        return replayed.is_stored(lambda _text: None)

    one_hole, two_holes = page([(0, 1), (3, 4)]), page([(0, 0), (2, 2), (4, 4)])
    assert not look(0, [two_holes])
    assert not look(REST_S, [one_hole])  # it moves
    assert not look(REST_S + 1, [one_hole], [page([(0, 4)])])  # and comes again
    assert not look(2 * REST_S, [one_hole])
    assert not look(3 * REST_S - 1, [one_hole])
    with pytest.raises(CheckFailedError, match=r"does not close: neither .*epoch 7, 2 to 2: see"):
        look(3 * REST_S, [one_hole])


def test_books_that_cannot_be_read_are_waited_for_as_well(
    layout: Layout, web: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that is being set aside, or a disk that has to be put right."""
    now = [0.0]
    replayed = Replayed(layout, web.port, (DEVICE,), now_s=lambda: now[0])
    web.by_path["/api/latest"] = latest((DEVICE.name, True, DONE))
    read = ledger.accounts
    layout.queue.mkdir(parents=True)  # nothing that SQLite can open
    assert not replayed.is_stored(lambda _text: None)
    given(monkeypatch, [page([(0, 4)])], [page([(0, 4)])])
    assert replayed.is_stored(lambda _text: None)
    monkeypatch.setattr(ledger, "accounts", read)
    now[0] = REST_S
    with pytest.raises(StorageError, match=r"queue\.db"):
        replayed.is_stored(lambda _text: None)


def test_rows_that_no_book_knows_are_a_failed_check_in_the_end(
    layout: Layout, web: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    replayed = Replayed(layout, web.port, (DEVICE,), now_s=lambda: now[0])
    web.by_path["/api/latest"] = latest((DEVICE.name, True, DONE | {"rows": "6"}))
    given(monkeypatch, [page([(0, 4)])], [page([(0, 4)])])
    assert not replayed.is_stored(lambda _text: None)
    now[0] = REST_S
    with pytest.raises(CheckFailedError, match="1 of 6 rows are not in the store"):
        replayed.is_stored(lambda _text: None)


def test_rows_that_were_evicted_are_a_failed_check(
    replayed: Replayed, web: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.by_path["/api/latest"] = latest((DEVICE.name, True, DONE))
    given(monkeypatch, [], [page([(0, 2)], [(3, 4)])])
    with pytest.raises(CheckFailedError, match="2 of 5 rows are not in the store"):
        replayed.is_stored(lambda _text: None)


def test_what_could_not_be_read_is_counted(
    replayed: Replayed, web: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = DONE | {"rejected": "3", "rejected_cells": "1", "file": "room.csv"}
    web.by_path["/api/latest"] = latest((DEVICE.name, True, info))
    given(monkeypatch, [page([(0, 4)])], [page([(0, 4)])])
    assert replayed.is_stored(lambda _text: None)
    assert list(replayed.left_out()) == [
        f"{DEVICE.name}: 3 rows and 1 cells of room.csv were left out"
    ]
