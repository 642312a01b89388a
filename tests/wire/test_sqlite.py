"""One SQLite file: opened the same way by everybody, its faults named."""

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plantroom.wire import sqlite
from plantroom.wire.errors import StorageCorruptError, StorageError, StorageFullError

ONE: sqlite.Migrations = {"books": ("CREATE TABLE book(id INTEGER PRIMARY KEY, text TEXT)",)}
TWO: sqlite.Migrations = {"books": (*ONE["books"], "ALTER TABLE book ADD COLUMN at_us INTEGER")}
OTHER: sqlite.Migrations = {
    "queue": ("CREATE TABLE queue(id INTEGER PRIMARY KEY); CREATE INDEX q ON queue(id)",)
}


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def test_a_new_file_is_durable_and_has_its_folder(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "a" / "b" / "state.db", ONE)
    pragmas = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    assert pragmas == ["wal", 2, 1]
    connection.close()


def test_a_schema_is_led_forward_once_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite.connect(path, ONE)
    connection.execute("INSERT INTO book(text) VALUES('kept')")
    connection.close()
    for _ in range(2):
        connection = sqlite.connect(path, TWO)
        assert columns(connection, "book") == ["id", "text", "at_us"]
        assert connection.execute("SELECT text FROM book").fetchall() == [("kept",)]
        connection.close()


def test_parts_share_a_file_and_move_on_their_own(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for migrations in (ONE, OTHER, {**ONE, **OTHER}, {**TWO, **OTHER}):
        sqlite.connect(path, migrations).close()
    connection = sqlite.connect(path, {})
    versions = connection.execute("SELECT part, version FROM schema_version ORDER BY part")
    assert versions.fetchall() == [("books", 2), ("queue", 1)]
    connection.close()


def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    sqlite.connect(path, TWO).close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="run the newer program"):
        sqlite.connect(path, ONE)
    assert path.read_bytes() == before


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    sqlite.connect(path, ONE).close()
    broken = {"books": (*ONE["books"], "CREATE TABLE half(id); INSERT INTO nowhere VALUES(1)")}
    with pytest.raises(StorageError, match="nowhere"):
        sqlite.connect(path, broken)
    connection = sqlite.connect(path, TWO)
    assert columns(connection, "half") == []
    assert "at_us" in columns(connection, "book")
    connection.close()


def test_a_migration_may_hold_triggers_and_text_with_semicolons(tmp_path: Path) -> None:
    script = (
        "CREATE TABLE a(t TEXT DEFAULT 'x;y');\n"
        "CREATE TRIGGER r AFTER INSERT ON a BEGIN UPDATE a SET t = 'p;q'; DELETE FROM a; END;\n"
        "-- a remark; with a semicolon\n"
        "CREATE TABLE b(id);\n"
    )
    connection = sqlite.connect(tmp_path / "state.db", {"a": (script,)})
    assert columns(connection, "b") == ["id"]
    connection.close()


def test_a_migration_cut_off_within_a_statement_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="within a statement"):
        sqlite.connect(tmp_path / "state.db", {"a": ("CREATE TABLE b(t DEFAULT 'x",)})


def test_many_may_open_a_new_file_at_the_same_moment(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.db"
        with ThreadPoolExecutor(8) as pool:
            for connection in pool.map(
                lambda _, p=path: sqlite.connect(p, {**TWO, **OTHER}), range(8)
            ):
                assert columns(connection, "queue") == ["id"]
                connection.close()


@pytest.mark.parametrize("damage", [b"this is no database at all, whatever its name says" * 99])
def test_a_file_that_is_no_database_is_named_and_left_as_it_is(
    tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(damage)
    with pytest.raises(StorageCorruptError) as caught:
        sqlite.connect(path, ONE)
    assert caught.value.where == str(path)
    assert path.read_bytes() == damage


def test_a_damaged_page_is_a_corrupt_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite.connect(path, ONE)
    connection.executemany("INSERT INTO book(text) VALUES(?)", [("x" * 500,)] * 200)
    connection.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(8192))
    connection = sqlite.connect(path, ONE)
    with pytest.raises(StorageCorruptError, match="damaged"), sqlite.translated(path):
        connection.execute("SELECT sum(length(text)) FROM book").fetchall()
    connection.close()


def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError) as caught:
        sqlite.connect(tmp_path / "file" / "state.db", ONE)
    assert "--state" in caught.value.remedy


def test_a_folder_in_the_place_of_the_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StorageError, match="check folder"):
        sqlite.connect(tmp_path / "state.db", ONE)


def test_an_error_of_sql_keeps_its_text(tmp_path: Path) -> None:
    connection = sqlite.connect(tmp_path / "state.db", ONE)
    translated = sqlite.translated(tmp_path / "state.db")
    with pytest.raises(StorageError, match="no such table: nowhere"), translated:
        connection.execute("SELECT 1 FROM nowhere")
    connection.close()


FILL = """
import resource, signal, sys
from pathlib import Path
from plantroom.wire import sqlite
from plantroom.wire.errors import StorageFullError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
connection = sqlite.connect(path, {"a": ("CREATE TABLE a(x)",)})
connection.execute("INSERT INTO a VALUES('before')")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    with sqlite.translated(path):
        connection.execute("INSERT INTO a VALUES(zeroblob(1000000))")
except StorageFullError as error:
    print(error.remedy, error.retry_helps)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
with sqlite.translated(path):
    connection.execute("INSERT INTO a VALUES('after')")
    print([row[0] for row in connection.execute("SELECT x FROM a")])
"""


def test_a_file_that_may_not_grow_is_full_and_goes_on_afterwards(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path / "state.db"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["free disk space True", "['before', 'after']"], done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs a tmpfs, and that needs root")
    return folder


def test_a_full_disk_is_named_and_harms_nothing(
    small_disk: Path, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", small_disk], check=True))
    path = small_disk / "state.db"
    connection = sqlite.connect(path, ONE)
    stored = 0

    def fill() -> None:
        nonlocal stored
        with sqlite.translated(path):
            for stored in range(1000):  # noqa: B007 -- read below
                connection.execute("INSERT INTO book(text) VALUES(?)", ("x" * 1000,))

    with pytest.raises(StorageFullError):
        fill()
    assert stored > 0
    (count,) = connection.execute("SELECT count(*) FROM book").fetchone()
    assert count == stored
    with pytest.raises(StorageFullError):
        sqlite.connect(small_disk / "second.db", ONE)
    connection.close()


def test_a_damaged_file_that_cannot_be_renamed_is_one_line_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails looks like damage first; then nothing on it can be renamed either."""

    def fail(_path: Path, _target: Path) -> Path:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "queue.db"
    path.write_bytes(b"damaged")
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageError, match=r"set aside: Input/output error, .*queue\.db: check"):
        sqlite.set_aside(path, "1")
    assert path.read_bytes() == b"damaged"
