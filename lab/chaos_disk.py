"""A disk that can be full: a small one of its own where root may mount it, else a file-size limit.

The limit (RLIMIT_FSIZE) lets a process overwrite what it has and not let any file grow; it is laid
on the processes that run now, so one that is killed meanwhile starts without it.
"""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

DISK_BYTES: Final = 192 * 1024 * 1024
_CHUNK_BYTES: Final = 1024 * 1024
_MOUNT_S: Final = 10.0


class Disk(Protocol):
    """Where the state lies."""

    kind: str

    def fill(self, pids: Sequence[int]) -> None:
        """Leave no room."""
        ...

    def free(self, pids: Sequence[int]) -> None:
        """Give the room back."""
        ...


class SmallDisk:
    """A tmpfs of its own, filled by a file that is only there to be big."""

    kind = "tmpfs"

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self, pids: Sequence[int]) -> None:
        """Write until nothing more fits."""
        del pids
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (_CHUNK_BYTES, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self, pids: Sequence[int]) -> None:
        """Delete it."""
        del pids
        self._ballast.unlink(missing_ok=True)


class SizeLimit:
    """The largest file of the state is as large as any may be."""

    kind = "rlimit"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self, pids: Sequence[int]) -> None:
        """Let no process make a file larger than the largest one now."""
        largest = max((path.stat().st_size for path in self._folder.rglob("*.db*")), default=0)
        self._limit(pids, largest)

    def free(self, pids: Sequence[int]) -> None:
        """Lift the limit."""
        self._limit(pids, resource.RLIM_INFINITY)

    def _limit(self, pids: Sequence[int], size_bytes: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


@contextmanager
def prepared(folder: Path, *, own: bool) -> Iterator[Disk]:
    """Mount a small disk on the folder while the block runs, if we may and its end is its own."""
    if (
        own
        and os.geteuid() == 0
        and _ran(
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size={DISK_BYTES},mode=0700",
            "plantroom-chaos",
            str(folder),
        )
    ):
        try:
            yield SmallDisk(folder)
        finally:
            _ran("umount", str(folder)) or _ran("umount", "--lazy", str(folder))
        return
    yield SizeLimit(folder)


def _ran(*command: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 -- fixed words and our own folder
            command, capture_output=True, timeout=_MOUNT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
