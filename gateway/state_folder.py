"""The gateway's state folder: where things lie, who has it, and the reserve for a full disk."""

import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from plantroom.broker.admin import SOCKET
from plantroom.certs.time_floor import FLOOR_FILE
from plantroom.wire.errors import StorageError
from plantroom.wire.state_lock import held


class _Disk(NamedTuple):
    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Every path below one gateway's state folder."""

    root: Path

    @property
    def broker_socket(self) -> Path:
        """Where `plantroom broker` asks."""
        return self.root / SOCKET

    @property
    def lock(self) -> Path:
        """Held while a gateway runs here."""
        return self.root / "gateway.lock"

    @property
    def queue(self) -> Path:
        """The queue, with the broker's segments and sessions."""
        return self.root / "queue.db"

    @property
    def reserve(self) -> Path:
        """Given up when the disk is full."""
        return self.root / "reserve"

    @property
    def authority(self) -> Path:
        """The building's root."""
        return self.root / "authority"

    @property
    def registry(self) -> Path:
        """The building's registration entries."""
        return self.root / "registry.db"

    @property
    def time_floor(self) -> Path:
        """The latest time that was known here."""
        return self.root / FLOOR_FILE

    @property
    def ota(self) -> Path:
        """What updates need: trust document and images."""
        return self.root / "ota"

    @property
    def uplink(self) -> Path:
        """The identity that the cloud gave this gateway."""
        return self.root / "uplink"

    def disk_free(self) -> int:
        """Return the bytes that are free on this disk."""
        return self._disk().free

    def disk_bytes(self) -> int:
        """Return the bytes that this disk has in all."""
        return self._disk().total

    def _disk(self) -> _Disk:
        try:
            return _Disk(*shutil.disk_usage(self.root))
        except OSError as error:
            raise StorageError(
                f"the state folder is gone: {error.strerror}",
                where=str(self.root),
                remedy="check the mount",
            ) from error

    def held(self) -> AbstractContextManager[None]:
        """Have the folder alone, for as long as this process lives; see `wire.state_lock.held`."""
        return held(self.lock, "gateway")


class Reserve:
    """A file of real bytes that is deleted on a full disk, so that deletes have room to work."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def wanted(self) -> int:
        """How much free disk there has to be before it is made again."""
        return 2 * self._size

    @property
    def is_there(self) -> bool:
        """Whether it can still be given up."""
        return not self._size or self._path.exists()

    def give_up(self) -> bool:
        """Delete it; False when it was gone already."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True

    def make(self, free: int) -> bool:
        """Make it again where there is room for it twice over; False while there is not."""
        if self.is_there:
            return True
        if free < self.wanted:
            return False
        draft = self._path.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
                os.fsync(file.fileno())
            draft.rename(self._path)
        except OSError:
            draft.unlink(missing_ok=True)
            return False
        return True
