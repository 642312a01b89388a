"""The cloud's state folder: where things lie, and who has it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plantroom.wire.errors import ConfigError, StorageError

_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Every path below one cloud's state folder."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held while a cloud runs here."""
        return self.root / "cloud.lock"

    @property
    def front(self) -> Path:
        """The front broker's sessions and messages."""
        return self.root / "front.db"

    @property
    def store(self) -> Path:
        """The store, unless it is configured to be elsewhere."""
        return self.root / "store.db"

    @property
    def authority(self) -> Path:
        """The cloud's root."""
        return self.root / "authority"

    @property
    def registry(self) -> Path:
        """The cloud's registration entries."""
        return self.root / "registry.db"

    @property
    def bundles(self) -> Path:
        """The buildings' trust bundles."""
        return self.root / "bundles.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the folder alone, for as long as this process lives.

        Raises:
            StorageError: when the folder cannot be written.
            ConfigError: when another cloud has it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
            handle = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"state folder cannot be written: {error.strerror}",
                where=str(self.root),
                remedy="check owner and mount, or change agent.state",
            ) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    "another cloud runs on this state folder",
                    where=str(self.root),
                    remedy="stop it, or change agent.state",
                ) from error
            yield
        finally:
            os.close(handle)
