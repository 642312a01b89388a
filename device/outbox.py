"""The sensor's outbox: a SQLite file in which a reading waits until it is acknowledged.

A reading with its seq, the position of its source, and the tombstone of whatever it displaced
commit in one transaction, on the disk before anyone hears of them. Synchronous, one lock, no
asyncio. Source: the delivery rules in docs/architecture.md, hop 1.
"""

import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from plantroom.device.driver import Taken
from plantroom.device.ring import (
    GONE_NOTES_MAX,
    NOTES_SAY_MORE,
    PARKED,
    ROWS_SAY_WHETHER_WHOLE,
    SCHEMA,
    SENT,
    UNSENT,
    Counts,
    Key,
    Limits,
    Ring,
)
from plantroom.wire import senml
from plantroom.wire.clock import Clock, is_plausible
from plantroom.wire.envelope import Note
from plantroom.wire.errors import StorageCorruptError, StorageFullError
from plantroom.wire.reading import KEY_MAX, Reading
from plantroom.wire.sqlite import connect, translated

MIGRATIONS = {"outbox": (SCHEMA, NOTES_SAY_MORE, ROWS_SAY_WHETHER_WHOLE)}
EPOCH_RANDOM_BITS = 20
EPOCHS_KEPT = 16
# WAL and FULL: a commit took 0.16 ms here, 0.85 ms with TRUNCATE, which syncs twice more.
WAL_PAGES = 100  # checkpoint early: the ring is small, and so are the devices


class Stored(NamedTuple):
    """The readings that were committed, and how many of what was taken they account for."""

    readings: tuple[Reading, ...]
    consumed: int


def next_epoch(last: int, wall_us: int, randbits: Callable[[int], int]) -> int:
    """Return an epoch above every earlier one, and unlike that of a restored or cloned image."""
    counter = (last >> EPOCH_RANDOM_BITS) + 1
    seconds = wall_us // 1_000_000
    if is_plausible(wall_us) and seconds <= KEY_MAX >> EPOCH_RANDOM_BITS:
        counter = max(counter, seconds)
    return counter << EPOCH_RANDOM_BITS | randbits(EPOCH_RANDOM_BITS)


class Outbox:
    """One device's ring; any thread may call it. `epoch` is that of this process's life."""

    def __init__(  # noqa: PLR0913 -- what it stands on, each of another kind
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        device: str,
        limits: Limits,
        clock: Clock,
        randbits: Callable[[int], int],
        boot: str,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._say = say
        self._db = connection
        self._path = path
        self._device = device
        self._clock = clock
        self._lock = threading.RLock()
        self._watchers: list[Callable[[], None]] = []
        self._randbits = randbits
        self._boot = boot
        with translated(path), connection:
            connection.execute("BEGIN IMMEDIATE")
            self.epoch = self._new_epoch()
            self._forget_epochs()
            self._ring = Ring(connection, limits, life=self.epoch)
            self._ran_before_us = int(self._recall("ran_us") or 0) - clock.monotonic_us()

    @classmethod
    def open(  # noqa: PLR0913 -- as above
        cls,
        path: Path,
        *,
        device: str,
        limits: Limits,
        clock: Clock,
        randbits: Callable[[int], int],
        boot: str = "",
        say: Callable[[str], None] = lambda _text: None,
    ) -> "Outbox":
        """Open (or make) the file and begin a new epoch.

        `boot` names this boot of the machine: the time since it is the same for all lives in it.
        `say` hears of rows that somebody has changed.

        Raises:
            StorageCorruptError: when the file is damaged; `set_aside` moves it out of the way.
            StorageError: when it cannot be read or written.
        """
        connection = connect(path, MIGRATIONS)
        try:
            with translated(path):
                connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
                connection.execute("PRAGMA cache_size=-256")
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StorageCorruptError(f"outbox is damaged: {verdict}", where=str(path))
            return cls(
                connection,
                path,
                device=device,
                limits=limits,
                clock=clock,
                randbits=randbits,
                boot=boot,
                say=say,
            )
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._db.close()

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back after every change, on the thread that made it."""
        self._watchers.append(callback)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction under the lock; counts follow it back when it is rolled back."""
        with self._lock:
            counts = self._ring.counts
            with translated(self._path):
                try:
                    self._db.execute("BEGIN IMMEDIATE")
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    self._ring.counts = counts
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        for callback in self._watchers:
            callback()

    @property
    def counts(self) -> Counts:
        """How full the ring is now."""
        with self._lock:
            return self._ring.counts

    @property
    def room(self) -> int:
        """How many readings fit before one that was not acknowledged has to go."""
        with self._lock:
            return self._ring.room

    @property
    def position(self) -> str | None:
        """The position that was committed last."""
        with self._lock, translated(self._path):
            value = self._recall("position")
            return None if value is None else str(value)

    def append(self, taken: Sequence[Taken], *, displace: bool = True) -> Stored:
        """Give numbers to what was taken and keep it, with its position, in one transaction.

        When the ring is full, sent rows go first, then the oldest. `displace=False` instead keeps
        only as many as fit without losing one that was not acknowledged.

        Raises:
            StorageFullError: no space on the disk; nothing was kept, and a retry may help.
        """
        with self._transaction():
            ran_us, at_us = self._ran_us(), self._clock.wall_us()
            (seq,) = self._db.execute(
                "SELECT next_seq FROM epoch WHERE epoch = ?", (self.epoch,)
            ).fetchone()
            readings: list[Reading] = []
            consumed = 0
            for one in taken:
                if one.sample is not None:
                    reading = Reading.numbered(
                        replace(one.sample, device=self._device),
                        epoch=self.epoch,
                        seq=seq + len(readings),
                    )
                    pack = senml.encode((reading,))
                    if not displace and not self._ring.fits(pack):
                        break
                    self._ring.add(reading, pack, ran_us)
                    readings.append(reading)
                if one.position is not None:
                    self._remember("position", one.position)
                    self._remember("position_crc", zlib.crc32(one.position.encode()))
                consumed += 1
            self._keep_time(readings, at_us)
            self._ring.expire(ran_us, at_us)
            self._ring.make_room(at_us)
            self._db.execute(
                "UPDATE epoch SET next_seq = ? WHERE epoch = ?", (seq + len(readings), self.epoch)
            )
            self._remember("ran_us", ran_us)
        return Stored(tuple(readings), consumed)

    def _keep_time(self, readings: Iterable[Reading], at_us: int) -> None:
        """Remember epochs with readings that say the time since boot only, and correct them.

        The correction is told once the clock can be right, for every life of this boot; those of an
        earlier boot can no longer be known.
        """
        if any(reading.time_us is None for reading in readings):
            self._db.execute(
                "INSERT OR IGNORE INTO timeless VALUES(?, ?)", (self.epoch, self._boot)
            )
        if not is_plausible(at_us) or not self._db.execute("SELECT 1 FROM timeless").fetchone():
            return
        offset_us = at_us - self._clock.monotonic_us()
        for epoch, following in self._db.execute(
            "SELECT t.epoch, max(e.next_seq, 1) FROM timeless t JOIN epoch e ON e.epoch = t.epoch"
            " WHERE t.boot = ? ORDER BY t.epoch",
            (self._boot,),
        ).fetchall():
            self._ring.say("correction", (epoch, 0, following - 1), "clock", at_us, offset_us)
        self._db.execute("DELETE FROM timeless")

    def take(self, count_max: int, bytes_max: int) -> tuple[Reading, ...]:
        """Take the oldest run of unsent readings into the air: one epoch, no gaps, oldest first."""
        with self._lock, translated(self._path):
            run = self._ring.take(UNSENT, count_max, bytes_max)
        self._give_up_broken()
        return run

    def take_parked(self, *, behind: Key) -> tuple[Reading, ...]:
        """Take one parked reading into the air: the first behind a key, else the first of all."""
        with self._lock, translated(self._path):
            run = self._ring.take(PARKED, 1, 0, behind=behind) or self._ring.take(PARKED, 1, 0)
        self._give_up_broken()
        return run

    def _give_up_broken(self) -> None:
        """Say of rows that are not as they were written that they are gone, once there is room."""
        if not self._ring.broken:
            return
        with suppress(StorageFullError), self._transaction():
            spans = self._ring.give_up(self._clock.wall_us())
            self._ring.broken.clear()
            for epoch, first, last in spans:
                self._say(f"outbox: epoch {epoch} seq {first} to {last} was changed: it is gone")

    def sent(self, readings: Iterable[Reading]) -> None:
        """Mark readings as acknowledged; they stay until their room is needed."""
        keys = [(reading.epoch, reading.seq) for reading in readings]
        with self._transaction():
            self._ring.mark(keys, SENT)
            self._ring.land(keys)

    def park(self, readings: Iterable[Reading]) -> None:
        """Put readings that were refused aside, so that the next ones can go ahead."""
        keys = [(reading.epoch, reading.seq) for reading in readings]
        with self._transaction():
            self._ring.mark(keys, PARKED)
            self._ring.land(keys)

    def untake(self, readings: Iterable[Reading]) -> None:
        """Take readings out of the air: they were not acknowledged and will be sent again."""
        with self._lock:
            self._ring.land([(reading.epoch, reading.seq) for reading in readings])

    def resend(self, epoch: int, ranges: Iterable[tuple[int, int]]) -> dict[str, int]:
        """Send readings again that were acknowledged before, and say which are gone.

        A number that the present epoch has not given yet is not gone. Nothing is said twice while
        it waits to be sent.
        """
        again = gone = 0
        with self._transaction():
            (following,) = self._db.execute(
                "SELECT next_seq FROM epoch WHERE epoch = ?", (self.epoch,)
            ).fetchone()
            at_us = self._clock.wall_us()
            for first, last in ranges:
                upto = min(last, following - 1) if epoch == self.epoch else last
                if first > upto:
                    continue
                unsent = self._ring.counts.unsent
                for low, high in self._ring.reopen(epoch, first, upto):
                    if self._ring.counts.notes < GONE_NOTES_MAX:
                        self._ring.say("gone", (epoch, low, high), "media", at_us)
                        gone += high - low + 1
                again += self._ring.counts.unsent - unsent
        return {"again": again, "gone": gone}

    def renew_epoch(self, reused: int) -> int:
        """Begin a new epoch because `reused` was found to name two readings; return the present.

        Does nothing when that is not the present one: it was renewed before.
        """
        with self._lock:
            if reused == self.epoch:
                with self._transaction():
                    epoch = self._new_epoch()
                self.epoch = epoch
                self._ring.begin_life(epoch)
            return self.epoch

    def _new_epoch(self) -> int:
        (last,) = self._db.execute("SELECT COALESCE(MAX(epoch), 0) FROM epoch").fetchone()
        epoch = next_epoch(last, self._clock.wall_us(), self._randbits)
        self._db.execute("INSERT INTO epoch VALUES(?, 0, 0)", (epoch,))
        return epoch

    def waiting(self, count_max: int) -> tuple[Reading, ...]:
        """Return the oldest readings that no one has acknowledged, also those in the air."""
        with self._lock, translated(self._path):
            return self._ring.waiting(count_max)

    def notes(self) -> tuple[Note, ...]:
        """Return the oldest tombstones, all of one epoch; they are never changed again."""
        with self._lock, translated(self._path):
            return self._ring.notes(self._device)

    def notes_sent(self, notes: Iterable[Note]) -> None:
        """Forget tombstones that were acknowledged."""
        keys: list[Key] = [(note.life, note.number) for note in notes]
        with self._transaction():
            self._ring.drop_notes(keys)

    def heads(self) -> dict[int, int]:
        """Return the highest seq of each epoch that is still known."""
        with self._lock, translated(self._path):
            rows = self._db.execute(
                "SELECT epoch, next_seq - 1 FROM epoch WHERE next_seq > 0 ORDER BY epoch"
            )
            return dict(rows.fetchall())

    def _forget_epochs(self) -> None:
        self._db.execute(
            "DELETE FROM epoch WHERE epoch NOT IN (SELECT epoch FROM reading)"
            " AND epoch NOT IN (SELECT epoch FROM note) AND epoch NOT IN (SELECT life FROM note)"
            " AND epoch NOT IN (SELECT epoch FROM epoch ORDER BY epoch DESC LIMIT ?)",
            (EPOCHS_KEPT,),
        )

    def _ran_us(self) -> int:
        """Return the running time of all lives together; it ignores what clocks are set to."""
        return self._ran_before_us + self._clock.monotonic_us()

    def _recall(self, key: str) -> int | str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _remember(self, key: str, value: int | str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))
