"""The SQLite sink: sessions, retained messages and the log of segments, one transaction a group."""

import sqlite3
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Any

from plantroom.broker.sink import (
    Batch,
    Cursor,
    IncomingSaved,
    ReleasedSaved,
    RetainedSaved,
    SessionDropped,
    SessionSaved,
    State,
    SubscriptionDropped,
    SubscriptionSaved,
    WillSaved,
)
from plantroom.wire.database import Database

PART = "broker"
MIGRATIONS: dict[str, tuple[str, ...]] = {
    PART: (
        """
        CREATE TABLE broker_start(boot INTEGER NOT NULL);
        INSERT INTO broker_start VALUES(0);
        CREATE TABLE segment(
            id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL,
            tapped INTEGER NOT NULL, waiting INTEGER NOT NULL, data BLOB NOT NULL);
        CREATE TABLE tap(name TEXT PRIMARY KEY, segment INTEGER NOT NULL);
        CREATE TABLE session(
            sid INTEGER PRIMARY KEY, spiffe_id TEXT NOT NULL, client_id TEXT NOT NULL,
            expiry_s INTEGER NOT NULL, ended_at_us INTEGER);
        CREATE TABLE subscription(
            sid INTEGER NOT NULL, topic_filter TEXT NOT NULL, options INTEGER NOT NULL,
            identifier INTEGER NOT NULL, PRIMARY KEY(sid, topic_filter)) WITHOUT ROWID;
        CREATE TABLE retained(
            topic TEXT PRIMARY KEY, packet BLOB NOT NULL, publisher TEXT NOT NULL,
            at_us INTEGER NOT NULL);
        CREATE TABLE will(
            sid INTEGER PRIMARY KEY, packet BLOB NOT NULL, publisher TEXT NOT NULL,
            client_id TEXT NOT NULL, delay_s INTEGER NOT NULL);
        CREATE TABLE incoming(
            sid INTEGER NOT NULL, packet_id INTEGER NOT NULL,
            PRIMARY KEY(sid, packet_id)) WITHOUT ROWID;
        CREATE TABLE released(
            sid INTEGER NOT NULL, ordinal INTEGER NOT NULL,
            PRIMARY KEY(sid, ordinal)) WITHOUT ROWID;
        CREATE TABLE delivery(
            sid INTEGER PRIMARY KEY, done INTEGER NOT NULL, sent INTEGER NOT NULL,
            next INTEGER NOT NULL);
        """,
    )
}
_PRUNE_AT_ONCE = 500


class SqliteStore:
    """The broker's tables in a database that it may share (part `broker` of its schema)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, batch: Batch) -> Awaitable[int]:
        """Start the transaction on the database's writer thread."""
        return self._database.begin(partial(_write, batch))

    async def load(self) -> State:
        """Read everything, and count a start."""
        return await self._database.write(_load)

    async def prune(self, segments: Iterable[int]) -> list[int]:
        """Delete those segments that every tap has passed; give those that remain."""
        numbers = list(segments)
        kept: list[int] = []
        for start in range(0, len(numbers), _PRUNE_AT_ONCE):
            part = numbers[start : start + _PRUNE_AT_ONCE]
            kept += await self._database.write(partial(_prune, part))
        return kept


def _write(batch: Batch, db: sqlite3.Connection) -> int:
    number = 0
    if batch.segment:
        number = (
            db.execute(
                "INSERT INTO segment(at_us, tapped, waiting, data) VALUES(?, ?, ?, ?)",
                (batch.at_us, batch.tapped, batch.waiting, batch.segment),
            ).lastrowid
            or 0
        )
    if batch.cursors:
        db.executemany(
            "INSERT OR REPLACE INTO delivery VALUES(?, ?, ?, ?)",
            [(cursor.sid, cursor.done, cursor.sent, cursor.next) for cursor in batch.cursors],
        )
    for change in batch.changes:
        _APPLY[type(change)](db, change)
    return number


def _session_saved(db: sqlite3.Connection, change: SessionSaved) -> None:
    db.execute(
        "INSERT OR REPLACE INTO session VALUES(?, ?, ?, ?, ?)",
        (change.sid, change.spiffe_id, change.client_id, change.expiry_s, change.ended_at_us),
    )


def _session_dropped(db: sqlite3.Connection, change: SessionDropped) -> None:
    for table in ("session", "subscription", "incoming", "released", "delivery"):
        db.execute(f"DELETE FROM {table} WHERE sid = ?", (change.sid,))


def _subscription_saved(db: sqlite3.Connection, change: SubscriptionSaved) -> None:
    db.execute(
        "INSERT OR REPLACE INTO subscription VALUES(?, ?, ?, ?)",
        (change.sid, change.topic_filter, change.options, change.identifier),
    )


def _subscription_dropped(db: sqlite3.Connection, change: SubscriptionDropped) -> None:
    db.execute(
        "DELETE FROM subscription WHERE sid = ? AND topic_filter = ?",
        (change.sid, change.topic_filter),
    )


def _retained_saved(db: sqlite3.Connection, change: RetainedSaved) -> None:
    if change.packet is None:
        db.execute("DELETE FROM retained WHERE topic = ?", (change.topic,))
    else:
        db.execute(
            "INSERT OR REPLACE INTO retained VALUES(?, ?, ?, ?)",
            (change.topic, change.packet, change.publisher, change.at_us),
        )


def _will_saved(db: sqlite3.Connection, change: WillSaved) -> None:
    if change.packet is None:
        db.execute("DELETE FROM will WHERE sid = ?", (change.sid,))
    else:
        db.execute(
            "INSERT OR REPLACE INTO will VALUES(?, ?, ?, ?, ?)",
            (change.sid, change.packet, change.publisher, change.client_id, change.delay_s),
        )


def _incoming_saved(db: sqlite3.Connection, change: IncomingSaved) -> None:
    if change.open:
        db.execute("INSERT OR IGNORE INTO incoming VALUES(?, ?)", (change.sid, change.packet_id))
    else:
        db.execute(
            "DELETE FROM incoming WHERE sid = ? AND packet_id = ?", (change.sid, change.packet_id)
        )


def _released_saved(db: sqlite3.Connection, change: ReleasedSaved) -> None:
    if change.open:
        db.execute("INSERT OR IGNORE INTO released VALUES(?, ?)", (change.sid, change.ordinal))
    else:
        db.execute(
            "DELETE FROM released WHERE sid = ? AND ordinal = ?", (change.sid, change.ordinal)
        )


_APPLY: dict[type, Any] = {
    SessionSaved: _session_saved,
    SessionDropped: _session_dropped,
    SubscriptionSaved: _subscription_saved,
    SubscriptionDropped: _subscription_dropped,
    RetainedSaved: _retained_saved,
    WillSaved: _will_saved,
    IncomingSaved: _incoming_saved,
    ReleasedSaved: _released_saved,
}


def _load(db: sqlite3.Connection) -> State:
    db.execute("UPDATE broker_start SET boot = boot + 1")
    ((boot,),) = db.execute("SELECT boot FROM broker_start")
    return State(
        boot=boot,
        sessions=tuple(
            SessionSaved(sid=a, spiffe_id=b, client_id=c, expiry_s=d, ended_at_us=e)
            for a, b, c, d, e in db.execute("SELECT * FROM session")
        ),
        subscriptions=tuple(
            SubscriptionSaved(sid=a, topic_filter=b, options=c, identifier=d)
            for a, b, c, d in db.execute("SELECT * FROM subscription")
        ),
        retained=tuple(
            RetainedSaved(topic=a, packet=b, publisher=c, at_us=d)
            for a, b, c, d in db.execute("SELECT * FROM retained")
        ),
        wills=tuple(
            WillSaved(sid=a, packet=b, publisher=c, client_id=d, delay_s=e)
            for a, b, c, d, e in db.execute("SELECT * FROM will")
        ),
        incoming=tuple(
            IncomingSaved(sid=a, packet_id=b, open=True)
            for a, b in db.execute("SELECT * FROM incoming")
        ),
        released=tuple(
            ReleasedSaved(sid=a, ordinal=b, open=True)
            for a, b in db.execute("SELECT * FROM released")
        ),
        cursors=tuple(Cursor(*row) for row in db.execute("SELECT * FROM delivery")),
        segments=tuple(
            (number, bool(tapped), data)
            for number, tapped, data in db.execute(
                "SELECT id, tapped, iif(waiting, data, x'') FROM segment ORDER BY id"
            )
        ),
    )


def _prune(numbers: list[int], db: sqlite3.Connection) -> list[int]:
    marks = ",".join("?" * len(numbers))
    db.execute(
        f"DELETE FROM segment WHERE id IN ({marks})"
        " AND (NOT tapped OR id <= (SELECT MIN(segment) FROM tap))",
        numbers,
    )
    return [row[0] for row in db.execute(f"SELECT id FROM segment WHERE id IN ({marks})", numbers)]
