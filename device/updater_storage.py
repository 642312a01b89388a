"""Where firmware lies: a few files, by steps that a power cut can come between.

The seam is this narrow so that a simulation can cut the power at each step; `put` is how small
records are replaced.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from plantroom.certs import atomic
from plantroom.wire.errors import StorageFullError

READ_BYTES = 256 * 1024


class Storage(Protocol):
    """Named files of one folder; what was written may be lost until it was synced."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; none where there is no such file, or no more."""
        ...

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write; what makes the file longer is made first."""
        ...

    def reserve(self, name: str, size: int) -> None:
        """Make a file of this size, or make sure that there is room for it.

        Raises:
            StorageFullError: when there is not.
        """
        ...

    def sync(self, name: str) -> None:
        """Bring what was written to the disk."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename in one step; when this returns, it is on the disk. The file has to be synced."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        ...


def put(storage: Storage, name: str, data: bytes) -> None:
    """Replace a small file: afterwards it is the old one or the new one."""
    fresh = f"{name}.new"
    storage.remove(fresh)
    storage.write(fresh, 0, data)
    storage.sync(fresh)
    storage.rename(fresh, name)


def digest_steps(storage: Storage, name: str, size: int) -> Iterator[bytes | None]:
    """Read a file back piece by piece: None after each, and its SHA-256 at the end.

    A file that is longer or shorter than `size` has the digest of nothing.
    """
    whole, at = hashlib.sha256(), 0
    while piece := storage.read(name, at, READ_BYTES):
        whole.update(piece)
        at += len(piece)
        if at > size:
            break
        yield None
    yield whole.digest() if at == size else b""


def digest_of(storage: Storage, name: str, size: int) -> bytes:
    """Read a file back at once."""
    return next(digest for digest in digest_steps(storage, name, size) if digest is not None)


class FolderStorage:
    """A real folder; at least `spare_bytes` of its disk are left to others.

    Raises:
        StorageError: when the folder cannot be made.
    """

    def __init__(self, folder: Path, *, spare_bytes: int = 0) -> None:
        atomic.make_private_folder(folder)
        self._folder = folder
        self._spare_bytes = spare_bytes
        self._open: dict[str, int] = {}

    def path(self, name: str) -> Path:
        """Return where a file lies, for whoever is to run or install it."""
        return self._folder / name

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; none where there is no such file, or no more."""
        path = self.path(name)
        with atomic.translated(path):
            if name not in self._open and not path.exists():
                return b""
            return os.pread(self._descriptor(name), size, offset)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write."""
        with atomic.translated(self.path(name)):
            descriptor, done = self._descriptor(name), 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], offset + done)

    def reserve(self, name: str, size: int) -> None:
        """Make a file of this size; other files' room is left to them."""
        with atomic.translated(self.path(name)):
            descriptor = self._descriptor(name)
            disk = os.fstatvfs(descriptor)
            held = os.fstat(descriptor).st_blocks * 512
            if disk.f_bavail * disk.f_frsize < max(0, size - held) + self._spare_bytes:
                raise StorageFullError(
                    f"no room for an image of {size} bytes",
                    where=str(self.path(name)),
                    remedy="free disk space",
                )
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                    raise

    def sync(self, name: str) -> None:
        """Bring it to the disk."""
        with atomic.translated(self.path(name)):
            os.fsync(self._descriptor(name))

    def rename(self, old: str, new: str) -> None:
        """Rename, durably."""
        self._close(old)
        self._close(new)
        atomic.rename(self.path(old), self.path(new))

    def remove(self, name: str) -> None:
        """Remove it."""
        self._close(name)
        with atomic.translated(self.path(name)):
            self.path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close every file; idempotent."""
        for name in [*self._open]:
            self._close(name)

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open[name] = os.open(self.path(name), flags, 0o600)
        return self._open[name]

    def _close(self, name: str) -> None:
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
