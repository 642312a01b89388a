import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.device.updater_storage import FolderStorage, Storage, digest_of, put
from plantroom.wire.errors import StorageError, StorageFullError
from tests.fakes import ota_author
from tests.fakes.ota_device import SimStorage


@pytest.fixture(params=["folder", "simulated"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """The contract: a real folder and the simulation do the same."""
    if request.param == "simulated":
        yield SimStorage()
        return
    folder = FolderStorage(tmp_path / "firmware")
    yield folder
    folder.close()


def test_what_is_written_is_read(storage: Storage) -> None:
    assert storage.read("x", 0, 10) == b""
    storage.write("x", 4, b"data")
    assert storage.read("x", 0, 100) == b"\0\0\0\0data"
    assert storage.read("x", 6, 1) == b"t"
    assert storage.read("x", 8, 1) == b""
    storage.sync("x")
    storage.rename("x", "y")
    assert storage.read("x", 0, 1) == b""
    assert storage.read("y", 4, 4) == b"data"
    storage.remove("y")
    storage.remove("y")
    assert storage.read("y", 0, 1) == b""


def test_room_is_made(storage: Storage) -> None:
    storage.reserve("x", 100)
    storage.write("x", 10, b"1")
    storage.reserve("x", 100)
    assert storage.read("x", 9, 3) == b"\x001\0"
    assert len(storage.read("x", 0, 200)) == 100


def test_a_small_file_is_replaced(storage: Storage) -> None:
    for data in (b"a longer one", b"short"):
        put(storage, "x", data)
        assert storage.read("x", 0, 100) == data
        assert storage.read("x.new", 0, 1) == b""


def test_the_digest_is_of_just_that_size(storage: Storage) -> None:
    data = bytes(600_000)
    storage.write("x", 0, data)
    assert digest_of(storage, "x", len(data)) == ota_author.digest(data)
    assert digest_of(storage, "x", len(data) - 1) == b""
    assert digest_of(storage, "x", len(data) + 1) == b""
    assert digest_of(storage, "absent", 5) == b""


def test_others_room_is_left_to_them(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path, spare_bytes=2**60)
    with pytest.raises(StorageFullError, match="no room"):
        storage.reserve("x", 100)
    storage.close()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    storage = FolderStorage(tmp_path)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFullError):
        storage.write("x", 0, b"data")
    storage.close()
    storage.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        FolderStorage(tmp_path / "file" / "folder")


def test_files_are_private(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path / "firmware")
    storage.write("x", 0, b"data")
    storage.close()
    assert storage.path("x").stat().st_mode & 0o777 == 0o600
    assert storage.path("x").parent.stat().st_mode & 0o777 == 0o700
