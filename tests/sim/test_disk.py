"""Simulated and real storage keep one promise: a crash leaves all of a transaction, or none.

The real file's power cut: of the sectors that the transaction in flight has written, any subset has
reached the disk, torn where it likes. (`synchronous=FULL` had every earlier commit synced.)
"""

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from plantroom.device.driver import Taken
from plantroom.device.outbox import Outbox
from plantroom.device.ring import Limits
from plantroom.wire.errors import StorageFullError
from plantroom.wire.reading import Point, Sample
from tests.sim.disk import Disk, mounted
from tests.sim.virtual_loop import DeadError

SECTOR_BYTES = 512
Seqs = list[tuple[int, int]]


class StillClock:
    def wall_us(self) -> int:
        return 1_790_000_000_000_000

    def monotonic_us(self) -> int:
        return 5


def open_outbox(path: Path) -> Outbox:
    return Outbox.open(
        path,
        device="spiffe://building-1.smart.local/agent/hvac-001",
        limits=Limits(readings_max=6),
        clock=StillClock(),
        randbits=random.Random(5).getrandbits,  # noqa: S311 -- reproducible
    )


def fill(outbox: Outbox, count: int) -> None:
    point = Point(name="temperature", unit="Cel", value=1.0)
    sample = Sample(device="", time_us=1_790_000_000_000_000, points=(point,))
    outbox.append([Taken(sample=sample)] * count)


def kept(query: Callable[[str], list[tuple[int, int]]]) -> tuple[Seqs, Seqs]:
    """Return the keys of the readings, and what tombstones speak of."""
    return (
        query("SELECT epoch, seq FROM reading ORDER BY epoch, seq"),
        query("SELECT first, last FROM note ORDER BY life, number"),
    )


def kept_in(path: Path) -> tuple[Seqs, Seqs]:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return kept(lambda sql: connection.execute(sql).fetchall())
    finally:
        connection.close()


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after it"])
@pytest.mark.parametrize("at", range(4))
def test_simulated_disk_keeps_all_of_a_transaction_or_nothing(at: int, *, after: bool) -> None:
    disk = Disk("sensor", "hvac-001")
    with mounted({"hvac-001": disk}):
        outbox = open_outbox(Path("/sim/hvac-001"))
        disk.crash_in, disk.crash_after = at, after
        states = [kept(disk.rows)]
        with pytest.raises(DeadError):  # noqa: PT012 -- one of them dies
            for _ in range(10):
                fill(outbox, 3)
                states.append(kept(disk.rows))
        assert len(states) == at + 1
        here = kept(disk.rows)
        assert (here == states[-1]) is not after
        with pytest.raises(DeadError):
            fill(outbox, 1)  # the dead write nothing
        assert kept(disk.rows) == here
        fill(open_outbox(Path("/sim/hvac-001")), 1)
        assert len(kept(disk.rows)[0]) == min(6, len(here[0]) + 1)


def test_full_simulated_disk_keeps_nothing_of_a_transaction() -> None:
    disk = Disk("sensor", "hvac-001")
    with mounted({"hvac-001": disk}):
        outbox = open_outbox(Path("/sim/hvac-001"))
        fill(outbox, 2)
        before = kept(disk.rows)
        disk.full = True
        with pytest.raises(StorageFullError):
            fill(outbox, 2)
        assert kept(disk.rows) == before
        disk.full = False
        fill(outbox, 2)
        assert len(kept(disk.rows)[0]) == 4


@pytest.mark.parametrize("seed", range(12))
def test_real_file_keeps_all_of_a_transaction_or_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- reproducible
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path)
    try:
        for number in range(6):
            fill(outbox, chance.randrange(1, 4))
            before = snapshot(path, tmp_path / f"before-{number}")
            fill(outbox, chance.randrange(1, 4))
            after = snapshot(path, tmp_path / f"after-{number}")
            torn = tmp_path / f"torn-{number}" / "outbox.db"
            tear(before, after, torn, chance)
            assert kept_in(torn) in (kept_in(before), kept_in(after))
            reopened = open_outbox(torn)
            fill(reopened, 1)
            reopened.close()
    finally:
        outbox.close()


def snapshot(path: Path, folder: Path) -> Path:
    """Copy the file and its WAL as they are on the disk now."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", folder / f"{path.name}{suffix}")
    return folder / path.name


def tear(before: Path, after: Path, torn: Path, chance: random.Random) -> None:
    """Make the disk of a power cut between two commits: some of the WAL's new sectors arrived."""
    torn.parent.mkdir()
    shutil.copyfile(before, torn)
    old, new = (Path(f"{path}-wal").read_bytes() for path in (before, after))
    mixed = bytearray(old.ljust(len(new), b"\0"))
    for at in range(0, len(new), SECTOR_BYTES):
        cut = at + (chance.randrange(SECTOR_BYTES) if chance.random() < 0.1 else SECTOR_BYTES)
        if chance.random() < 0.6:
            mixed[at:cut] = new[at:cut]
    Path(f"{torn}-wal").write_bytes(mixed)
