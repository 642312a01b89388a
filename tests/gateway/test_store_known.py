import asyncio
import sqlite3
from typing import Any

import pytest

from plantroom.gateway import answers, store_known
from plantroom.gateway.store_known import Known
from plantroom.wire.envelope import Receipt, Welcome


def receipt(commit: int, branch: str = "L") -> Receipt:
    return Receipt(incarnation=1, number=1, store_id="a", commit=commit, branch=branch)


def welcome(commit: int, branch: str, **knows: int) -> Welcome:
    return Welcome(incarnation=1, number=1, store_id="a", commit=commit, branch=branch, knows=knows)


def known_after(make_rig: Any, *said: Receipt | Welcome | str) -> Known:
    """Tell an empty queue these answers, or names of stores, one after the other."""

    def work(sql: sqlite3.Connection) -> Known:
        for each in said:
            if isinstance(each, str):
                answers.meet(sql, each)
            else:
                store_known.see(sql, each)
        return store_known.known(sql)

    async def scenario() -> Known:
        rig = make_rig()
        await rig.start()
        found: Known = await rig.database.write(work)
        return found

    return asyncio.run(scenario())


def test_the_latest_commit_of_each_branch_is_remembered(make_rig: Any) -> None:
    found = known_after(make_rig, "a", receipt(4), receipt(9), receipt(7), receipt(11, "M"))
    assert found == Known("a", 11, {"L": 9, "M": 11}, ())


def test_a_branch_that_the_store_has_found_is_forgotten_for_the_one_that_follows(
    make_rig: Any,
) -> None:
    found = known_after(make_rig, "a", receipt(9), welcome(12, "M", L=9))
    assert found.heard == {"M": 12}


def test_what_was_heard_since_the_hello_is_still_to_be_found(make_rig: Any) -> None:
    """The store may have been restored to a moment between the two."""
    found = known_after(make_rig, "a", receipt(9), receipt(10), welcome(12, "M", L=9))
    assert found.heard == {"L": 10, "M": 12}


def test_an_answer_of_the_same_branch_keeps_it(make_rig: Any) -> None:
    assert known_after(make_rig, "a", receipt(9), welcome(12, "L", L=9)).heard == {"L": 12}


def test_a_cloud_without_branches_is_known_by_its_count(make_rig: Any) -> None:
    assert known_after(make_rig, "a", receipt(9, ""), welcome(10, "")) == Known("a", 10, {}, ())


def test_another_store_has_made_nothing_yet_and_the_former_ones_are_named(make_rig: Any) -> None:
    found = known_after(make_rig, "a", receipt(9), "b", "c", "b", receipt(1, "N"))
    assert found == Known("c", 1, {"N": 1}, ("b", "a"))


def test_branches_are_bounded(make_rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_known, "_BRANCHES_MAX", 2)
    found = known_after(make_rig, "a", *(receipt(n, f"B{n}") for n in range(1, 5)))
    assert found.heard == {"B3": 3, "B4": 4}
