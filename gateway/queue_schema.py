"""The queue's tables, in the same SQLite file as the broker's segments and sessions.

`reading` holds what is queued and, while there is room, what is confirmed (the local history).
`span` and `digest` are the ledger's books: they outlive the rows. `note` holds what still has to be
told to the cloud. All of it is derived from segments, in one transaction with the cursor in `tap`.
"""

from typing import Final

from plantroom.wire import apart

# reading.state
WAITING: Final = 0  # received in order, not yet confirmed
AGAIN: Final = 1  # came late, or has to be sent a second time: backfill only
CONFIRMED: Final = 2  # receipted by the current store; kept as history while there is room

# span.kind
RECEIVED: Final = 0
STORED: Final = 1
EVICTED: Final = 2
QUARANTINED: Final = 3
GONE: Final = 4
KINDS: Final = {
    RECEIVED: "received",
    STORED: "confirmed",
    EVICTED: "evicted",
    QUARANTINED: "quarantined",
    GONE: "gone",
}

TAP: Final = "queue"

_FIRST = f"""
CREATE TABLE book(
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    highest INTEGER NOT NULL DEFAULT -1,
    disputed INTEGER NOT NULL DEFAULT 0,
    unranged INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    said INTEGER NOT NULL DEFAULT 0,
    UNIQUE(device, epoch)
);
CREATE TABLE span(
    book INTEGER NOT NULL REFERENCES book(id),
    kind INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY(book, kind, first)
) WITHOUT ROWID;
CREATE TABLE digest(
    book INTEGER NOT NULL REFERENCES book(id),
    segment INTEGER NOT NULL,
    total BLOB NOT NULL,
    PRIMARY KEY(book, segment)
) WITHOUT ROWID;
CREATE TABLE reading(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    book INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state INTEGER NOT NULL,
    size INTEGER NOT NULL,
    aged_us INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX reading_key ON reading(book, seq);
CREATE INDEX reading_waiting ON reading(id) WHERE state < {CONFIRMED};
CREATE INDEX reading_history ON reading(id) WHERE state = {CONFIRMED};
CREATE TABLE depth(
    state INTEGER PRIMARY KEY,
    readings INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
);
INSERT INTO depth(state) VALUES({WAITING}),({AGAIN}),({CONFIRMED});
CREATE TABLE note(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    author TEXT NOT NULL,
    life INTEGER NOT NULL,
    number INTEGER NOT NULL,
    device TEXT NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    UNIQUE(device, author, life, number, hash)
);
CREATE INDEX note_pending ON note(id) WHERE told = 0;
CREATE TABLE quarantine(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    epoch INTEGER,
    first INTEGER,
    last INTEGER,
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    hash BLOB NOT NULL,
    raw BLOB,
    at_us INTEGER NOT NULL
);
CREATE UNIQUE INDEX quarantine_key
    ON quarantine(device, ifnull(epoch, -1), ifnull(first, -1), hash, reason);
CREATE TABLE numbering(
    device TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    next INTEGER NOT NULL
);
CREATE TABLE unnumbered(
    session TEXT NOT NULL,
    packet_id INTEGER NOT NULL,
    hash BLOB NOT NULL,
    segment INTEGER NOT NULL,
    PRIMARY KEY(session, packet_id)
) WITHOUT ROWID;
CREATE INDEX unnumbered_age ON unnumbered(segment);
CREATE TABLE former_store(store_id TEXT PRIMARY KEY);
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE tally(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

_OWN_EPOCHS = "ALTER TABLE book ADD COLUMN own INTEGER NOT NULL DEFAULT 0;"

_QUARANTINE_ENDS = """
ALTER TABLE quarantine ADD COLUMN outcome TEXT NOT NULL DEFAULT '';
ALTER TABLE quarantine ADD COLUMN outcome_us INTEGER;
"""

_ACCEPTED = """
CREATE TABLE accepted(
    device TEXT NOT NULL,
    name BLOB NOT NULL,
    segment INTEGER NOT NULL,
    PRIMARY KEY(device, name)
) WITHOUT ROWID;
CREATE INDEX accepted_age ON accepted(segment);
"""

# `wire.seal` of what nothing else proves; NULL in rows that a former version wrote
_SEALS = """
ALTER TABLE book ADD COLUMN seal INTEGER;
ALTER TABLE quarantine ADD COLUMN seal INTEGER;
"""

_APART = f"""{apart.SCHEMA}
INSERT INTO apart
    SELECT device, ifnull(epoch, {apart.UNKNOWN}) AS at, count(*), min(ifnull(first, 0)),
        max(ifnull(last, 0)), NULL
    FROM quarantine GROUP BY device, at;
"""

MIGRATIONS: Final[dict[str, tuple[str, ...]]] = {
    "queue": (_FIRST, _OWN_EPOCHS, _QUARANTINE_ENDS, _ACCEPTED, _SEALS, _APART)
}
