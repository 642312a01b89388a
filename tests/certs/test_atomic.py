"""Files that are whole or not there."""

import errno
import os
import stat
from pathlib import Path

import pytest

from plantroom.certs import atomic
from plantroom.wire.errors import StorageError, StorageFullError


def test_a_file_is_replaced_with_its_mode_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o666)
    old_mask = os.umask(0)
    try:
        atomic.write(path, b"new")
    finally:
        os.umask(old_mask)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    path = tmp_path / "key"
    atomic.write(path, b"old")

    def full(_: int) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError) as caught:
        atomic.write(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    path = tmp_path / "key"
    (tmp_path / f"key.{os.getpid()}.new").symlink_to(target)
    with pytest.raises(StorageError):
        atomic.write(path, b"secret")
    assert target.read_bytes() == b"mine"


def test_reading_says_missing_too_large_and_unreadable(tmp_path: Path) -> None:
    assert atomic.read(tmp_path / "missing", bytes_max=10) is None
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(StorageError, match="larger than 10"):
        atomic.read(tmp_path / "large", bytes_max=10)
    with pytest.raises(StorageError):
        atomic.read(tmp_path, bytes_max=10)


def test_rename_and_remove_are_done_once_and_again(tmp_path: Path) -> None:
    atomic.write(tmp_path / "a", b"1")
    atomic.rename(tmp_path / "a", tmp_path / "b")
    atomic.remove(tmp_path / "b")
    atomic.remove(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError):
        atomic.rename(tmp_path / "a", tmp_path / "b")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/below"):
        atomic.make_private_folder(tmp_path / "file" / "below")
