"""Images of firmware on the disk of who serves them: chunk by chunk, each checked both ways.

Nothing but the bytes is kept: which chunks are there is found by their digests, so a file that was
half written, rots or was tampered with is noticed when it is opened or read, and fetched anew.
"""

import contextlib
import errno
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from plantroom.wire.errors import StorageError, StorageFullError
from plantroom.wire.firmware import Release
from plantroom.wire.ota_messages import STATUS, ChunkStatus, Get, encode

_FULL = {errno.ENOSPC, errno.EDQUOT}


class HeldImage:
    """One image; what cannot be verified is not there."""

    def __init__(self, path: Path, release: Release) -> None:
        self.release = release
        self._path = path
        self._have = bytearray(release.chunks.count)
        with _translated(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        for number in range(len(self._have)):
            self._have[number] = self._read(number) is not None

    @property
    def done(self) -> int:
        """How many chunks are there."""
        return self._have.count(1)

    @property
    def complete(self) -> bool:
        """Whether every chunk is there."""
        return self.done == len(self._have)

    def missing(self, count: int, besides: Collection[int] = ()) -> tuple[int, ...]:
        """Return the first chunks that are not there and not among `besides`."""
        found: list[int] = []
        at = self._have.find(0)
        while at >= 0 and len(found) < count:
            if at not in besides:
                found.append(at)
            at = self._have.find(0, at + 1)
        return tuple(found)

    def put(self, number: int, data: bytes) -> bool:
        """Take a chunk; False for one that is not the signed one.

        Raises:
            StorageFullError: when there is no room for it.
        """
        if not self.release.chunks.fits(number, data):
            return False
        if not self._have[number]:
            at = number * self.release.chunks.chunk_bytes
            with _translated(self._path):
                while data:
                    written = os.pwrite(self._file, data, at)
                    at, data = at + written, data[written:]
            self._have[number] = 1
        return True

    def get(self, number: int) -> bytes | None:
        """Return a chunk, if it is there and still what was signed."""
        if not 0 <= number < len(self._have) or not self._have[number]:
            return None
        data = self._read(number)
        self._have[number] = data is not None
        return data

    def is_whole(self) -> bool:
        """Say whether the whole image has its digest; sync it to the disk if so."""
        whole = hashlib.sha256()
        for number in range(len(self._have)):
            data = self.get(number)
            if data is None:
                return False
            whole.update(data)
        with _translated(self._path):
            os.fsync(self._file)
        return whole.digest() == self.release.image_digest

    def answer(self, wanted: Get, *, later_s: float) -> Iterator[tuple[str, bytes]]:
        """Give what to publish under `chunk/…` for a request: chunks, and `later` for the rest."""
        is_waiting = False
        for number in wanted.wanted:
            data = self.get(number)
            if data is None:
                is_waiting = True
            else:
                yield str(number), data
        if is_waiting:
            status = ChunkStatus(image=wanted.image, status="later", retry_s=later_s)
            yield STATUS, encode(status)

    def is_asked_rightly(self, wanted: Get) -> bool:
        """Say whether a request is for this image, cut as it is, and for chunks that it has."""
        release = self.release
        return (wanted.image, wanted.chunk_bytes) == (
            release.image_digest,
            release.chunks.chunk_bytes,
        ) and max(wanted.wanted) < len(self._have)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, number: int) -> bytes | None:
        chunks = self.release.chunks
        with _translated(self._path):
            data = os.pread(self._file, chunks.length(number), number * chunks.chunk_bytes)
        return data if chunks.fits(number, data) else None


class ImageStore:
    """The images of a folder, named by their digests, within a bound of bytes.

    Raises:
        StorageError: when the folder cannot be made.
    """

    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, HeldImage] = OrderedDict()
        with _translated(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def bytes_held(self) -> int:
        """How much of the bound is used."""
        return sum(size for _, _, size in self._files())

    def hold(self, release: Release, *, keep: Callable[[str], bool] = lambda _: False) -> HeldImage:
        """Return a release's image, as far as it is there; of others the oldest make room.

        Raises:
            StorageFullError: when those that `keep` names leave no room.
        """
        held = self.known(release)
        if held is not None:
            return held
        if release.image in self._held:  # cut in another way: the same bytes, other digests
            self._forget(release.image)
        self._make_room(release, keep)
        self._held[release.image] = HeldImage(self._folder / release.image, release)
        return self._held[release.image]

    def known(self, release: Release) -> HeldImage | None:
        """Return a release's image if it is open: then `hold` would not have to read it."""
        held = self._held.get(release.image)
        if held is None or held.release.chunks != release.chunks:
            return None
        self._held.move_to_end(release.image)
        return held

    def drop(self, image: str) -> None:
        """Remove an image."""
        self._forget(image)
        with _translated(self._folder):
            (self._folder / image).unlink(missing_ok=True)

    def close(self) -> None:
        """Close every file; idempotent."""
        for image in [*self._held]:
            self._forget(image)

    def _forget(self, image: str) -> None:
        held = self._held.pop(image, None)
        if held is not None:
            held.close()

    def _make_room(self, release: Release, keep: Callable[[str], bool]) -> None:
        wanted = release.chunks.image_bytes
        files = sorted((age, name, size) for name, age, size in self._files())
        used = sum(size for _, name, size in files if name != release.image)
        for _, name, size in files:
            if used + wanted <= self._bytes_max:
                return
            if name != release.image and not keep(name):
                self.drop(name)
                used -= size
        if used + wanted > self._bytes_max:
            raise StorageFullError(
                f"no room for an image of {wanted} bytes, {used} of {self._bytes_max} are in use",
                where=str(self._folder),
                remedy="raise ota.images_bytes_max, or revoke releases that nobody needs",
            )

    def _files(self) -> list[tuple[str, int, int]]:
        with _translated(self._folder):
            found = [(entry.name, entry.stat()) for entry in os.scandir(self._folder)]
        return [(name, about.st_mtime_ns, about.st_size) for name, about in found]


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StorageFullError if error.errno in _FULL else StorageError
        raise kind(
            f"images cannot be kept: {error.strerror}", where=str(path), remedy="free disk space"
        ) from error
