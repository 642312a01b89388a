"""The SQLite store's tables.

`r` holds the values: bucketed by hour, all but the value in the key, so that neighbours in time lie
together and nothing is stored twice. What has no time yet lies in bucket -1, its `ts` being the
time since the device's boot. `arrival` says of each run of neighbours when it was received, and
where in time it lies; `book`, `span`, `digest`, `note`, `quarantine` are the ledger; `branch` is
the history of the file itself.
"""

from typing import Final

from plantroom.wire import apart

HOUR_US: Final = 3_600_000_000
TIMELESS: Final = -1

# span.kind
STORED: Final = 0
QUARANTINED: Final = 1
EVICTED: Final = 2
GONE: Final = 3
RETIRED: Final = 4  # stored, and its rows went by retention: also in STORED

_FIRST: Final = """
CREATE TABLE store(
    id INTEGER PRIMARY KEY CHECK(id = 1),
    store_id TEXT NOT NULL,
    commits INTEGER NOT NULL
);
INSERT INTO store VALUES(1, lower(hex(randomblob(16))), 0);
CREATE TABLE device(
    id INTEGER PRIMARY KEY,
    spiffe_id TEXT NOT NULL UNIQUE,
    site TEXT NOT NULL,
    name TEXT NOT NULL,
    newest_us INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX device_name ON device(site, name);
CREATE TABLE series(
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES device(id),
    point TEXT NOT NULL,
    unit TEXT NOT NULL,
    UNIQUE(device, point, unit)
);
CREATE TABLE r(
    bucket INTEGER NOT NULL,
    series INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    value NOT NULL,
    PRIMARY KEY(bucket, series, ts, epoch, seq)
) WITHOUT ROWID;
CREATE TABLE mono(
    book INTEGER NOT NULL REFERENCES book(id),
    seq INTEGER NOT NULL,
    mono_us INTEGER NOT NULL,
    timed INTEGER NOT NULL,
    PRIMARY KEY(book, seq)
) WITHOUT ROWID;
CREATE TABLE latest(
    series INTEGER PRIMARY KEY REFERENCES series(id),
    ts INTEGER,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    value NOT NULL
);
CREATE TABLE book(
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES device(id),
    epoch INTEGER NOT NULL,
    highest INTEGER NOT NULL DEFAULT -1,
    offset_us INTEGER,
    disputed INTEGER NOT NULL DEFAULT 0,
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
CREATE TABLE arrival(
    book INTEGER NOT NULL REFERENCES book(id),
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    late INTEGER NOT NULL,
    PRIMARY KEY(book, first)
) WITHOUT ROWID;
CREATE TABLE note(
    owner TEXT NOT NULL,
    life INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY(owner, life, number, hash)
) WITHOUT ROWID;
CREATE TABLE quarantine(
    device TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    site TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    raw BLOB,
    PRIMARY KEY(device, epoch, seq, hash)
) WITHOUT ROWID;
"""

_QUARANTINE_ENDS: Final = """
ALTER TABLE quarantine ADD COLUMN outcome TEXT NOT NULL DEFAULT '';
ALTER TABLE quarantine ADD COLUMN outcome_us INTEGER;
"""

# `wire.seal` of what nothing else proves; NULL in rows that a former version wrote
_SEALS: Final = """
ALTER TABLE book ADD COLUMN seal INTEGER;
ALTER TABLE arrival ADD COLUMN seal INTEGER;
ALTER TABLE note ADD COLUMN seal INTEGER;
ALTER TABLE quarantine ADD COLUMN seal INTEGER;
"""

_BRANCHES: Final = "CREATE TABLE branch(first INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"

_APART: Final = (
    apart.SCHEMA
    + "INSERT INTO apart SELECT device, epoch, count(*), min(seq), max(seq), NULL FROM quarantine"
    " GROUP BY device, epoch;"
)

MIGRATIONS: Final = {"store": (_FIRST, _QUARANTINE_ENDS, _SEALS, _BRANCHES, _APART)}
