"""Which opening of the store made which commits: what tells a restored store from the one it was.

A backup that is put in place keeps its name, and counts on from where it was: its count alone says
nothing once it has caught up. So whoever opens the store to write begins a branch, with a random
name, at its first commit. `(branch, commit)` then names one commit for good, and a gateway that has
heard of one that is not in this history has heard it from what the store was before.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

KEPT: Final = 1_000  # whoever has heard of none of these sends again what it has


def keep(connection: sqlite3.Connection, mine: str, commit: int) -> str:
    """Return the branch that a commit under way is of: `mine` while nobody else has written."""
    row = connection.execute("SELECT name FROM branch ORDER BY first DESC LIMIT 1").fetchone()
    if row is not None and row[0] == mine:
        return mine
    connection.execute("DELETE FROM branch WHERE first >= ?", (commit,))  # of no count
    (name,) = connection.execute(
        "INSERT INTO branch(first, name) VALUES(?, lower(hex(randomblob(8)))) RETURNING name",
        (commit,),
    ).fetchone()
    connection.execute(
        "DELETE FROM branch WHERE first <= (SELECT first FROM branch ORDER BY first DESC"
        " LIMIT 1 OFFSET ?)",
        (KEPT,),
    )
    return str(name)


def knows(connection: sqlite3.Connection, commit: int, heard: Mapping[str, int]) -> bool:
    """Say whether so many commits were made, and those of their branches are in this history."""
    (commits,) = connection.execute("SELECT commits FROM store").fetchone()
    rows = connection.execute("SELECT name, first FROM branch ORDER BY first").fetchall()
    ends = [*(first for _, first in rows[1:]), commits + 1]
    spans = {name: range(first, end) for (name, first), end in zip(rows, ends, strict=False)}
    return commit <= commits and all(at in spans.get(name, ()) for name, at in heard.items())
