import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from plantroom.wire import damage
from plantroom.wire.errors import PlantroomError, StorageCorruptError, StorageError


def made(path: Path, rows: int = 50) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE b(x)")
    connection.executemany("INSERT INTO b VALUES(?)", [(b"x" * 3000,)] * rows)
    connection.commit()
    connection.close()
    return path


def spoil(path: Path, at: int = 8192) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 50_000)


@pytest.mark.parametrize("at", [0, 8192])
def test_a_damaged_file_is_found_wherever_it_is_damaged(tmp_path: Path, at: int) -> None:
    path = made(tmp_path / "d.db")
    damage.check(path)
    damage.check(tmp_path / "none.db")
    spoil(path, at)
    with pytest.raises(StorageCorruptError) as caught:
        damage.check(path)
    assert caught.value.where == str(path)
    damage.check(path, bytes_max=1000)  # too large to be looked through


def test_damage_is_recognised_behind_groups_and_causes(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    corrupt = StorageCorruptError("damaged", where=str(path))
    other = StorageCorruptError("damaged", where="another")
    assert damage.damage_in(ExceptionGroup("", [ValueError(), corrupt]), path) is corrupt
    assert damage.damage_in(other, path) is None
    later = StorageError("cannot close")
    later.__context__ = ExceptionGroup("", [corrupt])
    assert damage.damage_in(later, path) is corrupt
    corrupt.__context__ = later  # a ring ends
    assert damage.damage_in(later, tmp_path / "x") is None


def play(path: Path, *acts: Callable[[], None]) -> list[int]:
    done: list[int] = []

    async def serve() -> None:
        done.append(len(done))
        acts[min(len(done), len(acts)) - 1]()

    asyncio.run(damage.outlive(path, serve))
    return done


def test_service_goes_on_beside_the_file_that_was_set_aside(tmp_path: Path) -> None:
    path = made(tmp_path / "d.db")
    spoil(path, 0)
    before = path.read_bytes()
    assert play(path, lambda: damage.check(path)) == [0, 1]
    [aside] = tmp_path.glob("d.db.damaged-*")
    assert aside.read_bytes() == before
    assert not path.exists()


def test_other_errors_are_not_ours_and_a_bad_disk_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "d.db"

    def full() -> None:
        raise StorageError("no space")

    def corrupt() -> None:
        path.touch()
        raise StorageCorruptError("damaged", where=str(path))

    with pytest.raises(StorageError, match="no space"):
        play(path, full)
    with pytest.raises(PlantroomError, match=f"{damage.DAMAGES_MAX} times"):
        play(path, corrupt)
    assert len(list(tmp_path.glob("d.db.damaged-*"))) == damage.DAMAGES_MAX
