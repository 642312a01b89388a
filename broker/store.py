"""The SQLite sink: sessions, retained messages and the log of segments, one transaction a group."""

import sqlite3
from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Any

from plantroom.broker.sink import (
    Batch,
    Cursor,
    Entry,
    IncomingSaved,
    Pruned,
    ReleasedSaved,
    RetainedSaved,
    SessionDropped,
    SessionSaved,
    State,
    SubscriptionDropped,
    SubscriptionSaved,
    WalkSaved,
    WillSaved,
    entry,
)
from plantroom.wire.database import Database
from plantroom.wire.errors import StorageCorruptError

PART = "broker"
MIGRATIONS: dict[str, tuple[str, ...]] = {
    PART: (
        """
        CREATE TABLE broker_start(boot INTEGER NOT NULL);
        INSERT INTO broker_start VALUES(0);
        CREATE TABLE segment(
            id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL,
            tapped INTEGER NOT NULL, data BLOB NOT NULL);
        CREATE TABLE waiting(
            sid INTEGER NOT NULL, end INTEGER NOT NULL, segment INTEGER NOT NULL,
            PRIMARY KEY(sid, end)) WITHOUT ROWID;
        CREATE INDEX waiting_segment ON waiting(segment);
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
            sid INTEGER NOT NULL, ordinal INTEGER NOT NULL, finished INTEGER NOT NULL,
            PRIMARY KEY(sid, ordinal)) WITHOUT ROWID;
        CREATE TABLE delivery(
            sid INTEGER PRIMARY KEY, done INTEGER NOT NULL, sent INTEGER NOT NULL,
            next INTEGER NOT NULL);
        """,
        "ALTER TABLE will ADD COLUMN serial TEXT NOT NULL DEFAULT '';",
        """
        CREATE TABLE walk(
            sid INTEGER NOT NULL, topic_filter TEXT NOT NULL, topic TEXT NOT NULL,
            PRIMARY KEY(sid, topic_filter)) WITHOUT ROWID;
        """,
    )
}
_PRUNE_AT_ONCE = 200  # rows in one transaction
_PRUNE_STEPS = 50
_SMALL_BYTES = 262_144
_SMALL_CHANGES = 100
_NO_LIMIT = (1 << 63) - 1


class SqliteStore:
    """The broker's tables in a database that it may share (part `broker` of its schema)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._swept = 0  # tapped segments up to this one were looked at

    def commit(self, batch: Batch) -> Awaitable[int]:
        """Start the transaction: a small one here while the disk is fast, else on a thread."""
        small = len(batch.segment) <= _SMALL_BYTES and len(batch.changes) <= _SMALL_CHANGES
        return self._database.begin(partial(_write, batch), brief=small)

    async def load(self) -> State:
        """Read everything, and count a start."""
        return await self._database.write(_load)

    async def read(self, sid: int, start: int, end: int, size_bytes: int) -> list[Entry]:
        """Read what a session waits for on the reader's thread, beside the commits."""
        return await self._database.read(partial(_read, (sid, start, end), size_bytes))

    async def prune(self, sids: Iterable[int]) -> Pruned:
        """Forget what these sessions have passed, then delete what nobody needs.

        In short transactions, because commits wait for them.
        """
        freed_bytes, left = 0, list(sids)
        for _ in range(_PRUNE_STEPS):
            if not left:
                break
            left, free = await self._database.write(partial(_pass, left))
            freed_bytes += free
        for _ in range(_PRUNE_STEPS):
            before = self._swept
            self._swept, free = await self._database.write(partial(_sweep, before))
            freed_bytes += free
            if self._swept == before:
                break
        return Pruned(freed_bytes=freed_bytes, more=tuple(left))


def _write(batch: Batch, db: sqlite3.Connection) -> int:
    number = 0
    if batch.segment:
        number = (
            db.execute(
                "INSERT INTO segment(at_us, tapped, data) VALUES(?, ?, ?)",
                (batch.at_us, batch.tapped, batch.segment),
            ).lastrowid
            or 0
        )
        if batch.waiting:
            db.executemany(
                "INSERT INTO waiting VALUES(?, ?, ?)",
                [(sid, end, number) for sid, end in batch.waiting],
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
    for table in ("session", "subscription", "walk", "incoming", "released", "delivery"):
        db.execute(f"DELETE FROM {table} WHERE sid = ?", (change.sid,))


def _subscription_saved(db: sqlite3.Connection, change: SubscriptionSaved) -> None:
    db.execute(
        "INSERT OR REPLACE INTO subscription VALUES(?, ?, ?, ?)",
        (change.sid, change.topic_filter, change.options, change.identifier),
    )


def _subscription_dropped(db: sqlite3.Connection, change: SubscriptionDropped) -> None:
    for table in ("subscription", "walk"):
        db.execute(
            f"DELETE FROM {table} WHERE sid = ? AND topic_filter = ?",
            (change.sid, change.topic_filter),
        )


def _walk_saved(db: sqlite3.Connection, change: WalkSaved) -> None:
    if change.topic is None:
        db.execute(
            "DELETE FROM walk WHERE sid = ? AND topic_filter = ?", (change.sid, change.topic_filter)
        )
    else:
        db.execute(
            "INSERT OR REPLACE INTO walk VALUES(?, ?, ?)",
            (change.sid, change.topic_filter, change.topic),
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
            "INSERT OR REPLACE INTO will VALUES(?, ?, ?, ?, ?, ?)",
            (
                change.sid,
                change.packet,
                change.publisher,
                change.client_id,
                change.delay_s,
                change.serial,
            ),
        )


def _incoming_saved(db: sqlite3.Connection, change: IncomingSaved) -> None:
    if change.open:
        db.execute("INSERT OR IGNORE INTO incoming VALUES(?, ?)", (change.sid, change.packet_id))
    else:
        db.execute(
            "DELETE FROM incoming WHERE sid = ? AND packet_id = ?", (change.sid, change.packet_id)
        )


def _released_saved(db: sqlite3.Connection, change: ReleasedSaved) -> None:
    db.execute(
        "INSERT OR REPLACE INTO released VALUES(?, ?, ?)",
        (change.sid, change.ordinal, change.finished),
    )


_APPLY: dict[type, Any] = {
    SessionSaved: _session_saved,
    SessionDropped: _session_dropped,
    SubscriptionSaved: _subscription_saved,
    SubscriptionDropped: _subscription_dropped,
    WalkSaved: _walk_saved,
    RetainedSaved: _retained_saved,
    WillSaved: _will_saved,
    IncomingSaved: _incoming_saved,
    ReleasedSaved: _released_saved,
}


def _load(db: sqlite3.Connection) -> State:
    db.execute("UPDATE broker_start SET boot = boot + 1")
    return state(db)


def state(db: sqlite3.Connection) -> State:
    """Read everything that a start reads."""
    boots = db.execute("SELECT boot FROM broker_start").fetchall()
    if len(boots) != 1:
        raise StorageCorruptError("the number of starts is not there once")
    return State(
        boot=boots[0][0],
        sessions=tuple(
            SessionSaved(sid=a, spiffe_id=b, client_id=c, expiry_s=d, ended_at_us=e)
            for a, b, c, d, e in db.execute("SELECT * FROM session")
        ),
        subscriptions=tuple(
            SubscriptionSaved(sid=a, topic_filter=b, options=c, identifier=d)
            for a, b, c, d in db.execute("SELECT * FROM subscription")
        ),
        walks=tuple(
            WalkSaved(sid=a, topic_filter=b, topic=c)
            for a, b, c in db.execute("SELECT * FROM walk")
        ),
        retained=tuple(
            RetainedSaved(topic=a, packet=b, publisher=c, at_us=d)
            for a, b, c, d in db.execute("SELECT * FROM retained")
        ),
        wills=tuple(
            WillSaved(sid=a, packet=b, publisher=c, client_id=d, delay_s=e, serial=f)
            for a, b, c, d, e, f in db.execute("SELECT * FROM will")
        ),
        incoming=tuple(
            IncomingSaved(sid=a, packet_id=b, open=True)
            for a, b in db.execute("SELECT * FROM incoming")
        ),
        released=tuple(
            ReleasedSaved(sid=a, ordinal=b, finished=bool(c))
            for a, b, c in db.execute("SELECT * FROM released")
        ),
        cursors=tuple(Cursor(*row) for row in db.execute("SELECT * FROM delivery")),
        waiting=tuple(db.execute("SELECT sid, MAX(end) FROM waiting GROUP BY sid")),
        log_bytes=db.execute("SELECT coalesce(SUM(LENGTH(data)), 0) FROM segment").fetchone()[0],
    )


def _read(where: tuple[int, int, int], size_bytes: int, db: sqlite3.Connection) -> list[Entry]:
    found: list[Entry] = []
    rows = db.execute(
        "SELECT waiting.end, segment.data FROM waiting JOIN segment ON segment.id = waiting.segment"
        " WHERE sid = ? AND end > ? AND end <= ? ORDER BY end",
        where,
    )
    for end, data in rows:
        found.append(entry(end, data, where[0]))
        size_bytes -= sum(len(run.data) for run in found[-1].runs)
        if size_bytes <= 0:
            break
    rows.close()
    return found


def _pass(sids: list[int], db: sqlite3.Connection) -> tuple[list[int], int]:
    """Forget what sessions have passed; return those that are left, and how much was freed."""
    room, freed_bytes = _PRUNE_AT_ONCE, 0
    for number, sid in enumerate(sids):
        row = db.execute("SELECT done FROM delivery WHERE sid = ?", (sid,)).fetchone()
        done = row[0] if row else _NO_LIMIT  # the session is gone
        db.execute("DELETE FROM released WHERE sid = ? AND ordinal < ?", (sid, done))
        passed = db.execute(
            "DELETE FROM waiting WHERE sid = ?1 AND end IN (SELECT end FROM waiting"
            " WHERE sid = ?1 AND end <= ?2 ORDER BY end LIMIT ?3) RETURNING segment",
            (sid, done, room),
        ).fetchall()
        freed_bytes += _delete([row[0] for row in passed], db)
        room -= len(passed)
        if room <= 0:
            return sids[number:], freed_bytes
    return [], freed_bytes


def _delete(numbers: list[int], db: sqlite3.Connection) -> int:
    """Delete those of these segments that no session and no tap needs; return their bytes."""
    marks = ",".join("?" * len(numbers))
    freed = db.execute(
        f"DELETE FROM segment WHERE id IN ({marks})"
        " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.segment = segment.id)"
        " AND (NOT tapped OR id <= (SELECT MIN(tap.segment) FROM tap)) RETURNING LENGTH(data)",
        numbers,
    ).fetchall()
    return sum(row[0] for row in freed)


def _sweep(swept: int, db: sqlite3.Connection) -> tuple[int, int]:
    """Delete what all taps have passed and no session waits for; return up to where, and bytes.

    What a session waits for is left to `_pass`.
    """
    (top,) = db.execute("SELECT MIN(segment) FROM tap").fetchone()
    (first,) = db.execute("SELECT MIN(id) FROM segment WHERE id > ?", (swept,)).fetchone()
    if top is None or first is None or first > top:
        return swept, 0
    last = min(top, first + _PRUNE_AT_ONCE)
    freed = db.execute(
        "DELETE FROM segment WHERE id BETWEEN ? AND ?"
        " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.segment = segment.id)"
        " RETURNING LENGTH(data)",
        (first, last),
    ).fetchall()
    return last, sum(row[0] for row in freed)
