"""Files that are either the old ones or the new ones, never half of each."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from plantroom.wire.errors import StorageError, StorageFullError

PRIVATE, PUBLIC = 0o600, 0o644
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an OSError about this path into one of ours, with what the operator can do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(
                "no space left", where=str(path), remedy="free disk space"
            ) from error
        raise StorageError(
            f"cannot use the file: {error.strerror}",
            where=str(path),
            remedy="check folder, owner and mount",
        ) from error


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; an existing one keeps its mode."""
    with translated(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Replace the file in one step; when this returns, it is on the disk."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with translated(path):
        # Born with its mode: at no moment can another user open a key.
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(path)


def rename(old: Path, new: Path) -> None:
    """Rename in one step; when this returns, it is on the disk."""
    with translated(new):
        old.replace(new)
        sync_folder(new)


def remove(path: Path) -> None:
    """Remove the file if it is there."""
    with translated(path):
        path.unlink(missing_ok=True)
        sync_folder(path)


def read(path: Path, *, bytes_max: int) -> bytes | None:
    """Return the file's bytes, or None where there is no such file.

    Raises:
        StorageError: when it cannot be read, or is larger than `bytes_max`.
    """
    with translated(path):
        try:
            with path.open("rb") as file:
                data = file.read(bytes_max + 1)
        except FileNotFoundError:
            return None
    if len(data) > bytes_max:
        raise StorageError(f"file is larger than {bytes_max} bytes", where=str(path))
    return data


def sync_folder(path: Path) -> None:
    """Bring the name of this file to the disk: a rename is durable only with its folder."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
