from pathlib import Path

import pytest

from plantroom.cloud import branches
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.writing import Writer
from tests.fakes.deliveries import delivery
from tests.fakes.store_tables import tables

RAW = 1 << 20


def test_one_writer_keeps_its_branch_and_another_begins_one(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        one, two = (writer.apply(connection, [delivery([])]).receipts[0].branch for _ in range(2))
        other = Writer(belongs_by_name, raw_bytes_max=RAW).apply(connection, [delivery([])])
        back = writer.apply(connection, [delivery([])]).receipts[0].branch
        rows = connection.execute("SELECT first FROM branch ORDER BY first").fetchall()
    assert one == two
    assert len({one, other.receipts[0].branch, back}) == 3
    assert rows == [(1,), (3,), (4,)]


def test_a_commit_is_known_within_its_branch_only(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        for _ in range(3):
            first = writer.apply(connection, [delivery([])]).receipts[0].branch
        after = Writer(belongs_by_name, raw_bytes_max=RAW)
        for _ in range(3):
            last = after.apply(connection, [delivery([])]).receipts[0].branch

        def known(commit: int, **heard: int) -> bool:
            names = {"first": first, "last": last, "other": "0" * 16}
            return branches.knows(connection, commit, {names[key]: at for key, at in heard.items()})

        assert known(0)
        assert known(6, first=1)
        assert known(6, first=3, last=6)
        assert not known(7), "more than was ever counted"
        assert not known(6, first=4), "it ended before: what was counted behind is forgotten"
        assert not known(6, last=3), "it began later"
        assert not known(6, last=7)
        assert not known(6, first=3, other=1), "of another history"


def test_a_store_without_branches_knows_commits_by_their_number(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, _):
        connection.execute("UPDATE store SET commits = 5")
        assert branches.knows(connection, 5, {})
        assert not branches.knows(connection, 6, {})
        assert not branches.knows(connection, 5, {"a": 1})


def test_branches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "KEPT", 3)
    with tables(tmp_path) as (connection, _):
        for commit in range(1, 9):
            branches.keep(connection, "", commit)
        rows = connection.execute("SELECT first FROM branch ORDER BY first").fetchall()
    assert rows == [(6,), (7,), (8,)]


def test_a_count_that_was_lowered_by_hand_stops_no_commit(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, _):
        branches.keep(connection, "", 9)
        last = branches.keep(connection, "", 4)
        assert connection.execute("SELECT first, name FROM branch").fetchall() == [(4, last)]
