"""What this gateway has heard of the cloud's store: its name, and commits that it has made.

A hello says it, so that a store which was restored from a backup finds out: it has never made those
commits, whatever its count says by now.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final, NamedTuple

from plantroom.gateway import tables
from plantroom.wire.envelope import Receipt, Welcome

_HEARD: Final = "store_heard:"  # and the name of a branch, in `meta`: its latest commit
_BRANCHES_MAX: Final = 100
_FORMER_MAX: Final = 100


class Known(NamedTuple):
    """A store, its latest commit that we have heard of, and the latest of each of its branches.

    `former` are those that it has taken the place of.
    """

    store_id: str
    commit: int
    heard: Mapping[str, int]
    former: tuple[str, ...]


def known(connection: sqlite3.Connection) -> Known:
    """Return what a hello says of the store."""
    return Known(
        tables.meta(connection, "store_id", ""),
        tables.meta(connection, "store_commit", 0),
        _heard(connection),
        tuple(
            name
            for (name,) in connection.execute(
                "SELECT store_id FROM former_store ORDER BY rowid DESC LIMIT ?", (_FORMER_MAX,)
            )
        ),
    )


def begin(connection: sqlite3.Connection, store_id: str) -> None:
    """Know another store from now on, and none of its commits."""
    tables.set_meta(connection, "store_id", store_id)
    tables.set_meta(connection, "store_commit", 0)
    for branch in _heard(connection):
        tables.set_meta(connection, _HEARD + branch, None)


def see(connection: sqlite3.Connection, answer: Receipt | Welcome) -> None:
    """Remember the latest commit of the store that we know, and of each of its branches.

    A branch is forgotten once the store has found our latest commit of it in the history that
    leads to the commit of this answer, and that one is remembered instead.
    """
    if answer.commit > tables.meta(connection, "store_commit", 0):
        tables.set_meta(connection, "store_commit", answer.commit)
    if not answer.branch:
        return  # a cloud of a former version
    heard = _heard(connection)
    if answer.commit > heard.get(answer.branch, -1):
        heard[answer.branch] = answer.commit
        tables.set_meta(connection, _HEARD + answer.branch, answer.commit)
    found = answer.knows if isinstance(answer, Welcome) else {}
    done = [name for name, commit in found.items() if heard.get(name) == commit]
    oldest = sorted(heard, key=lambda name: heard[name])[:-_BRANCHES_MAX]
    for name in {*done, *oldest} - {answer.branch}:
        tables.set_meta(connection, _HEARD + name, None)


def _heard(connection: sqlite3.Connection) -> dict[str, int]:
    return {
        name.removeprefix(_HEARD): commit
        for name, commit in connection.execute(
            "SELECT name, value FROM meta WHERE name BETWEEN ? AND ?", (_HEARD, _HEARD + "~")
        )
    }
