"""One process a state folder: a lock that goes with the process."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from plantroom.wire.errors import ConfigError, StorageError

_PRIVATE = 0o700


@contextlib.contextmanager
def held(lock: Path, who: str) -> Iterator[None]:
    """Have the folder of `lock` alone, for as long as this process lives; `who` names its kind.

    Raises:
        StorageError: when the folder cannot be written.
        ConfigError: when another process has it.
    """
    folder = lock.parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"state folder cannot be written: {error.strerror}",
            where=str(folder),
            remedy="check owner and mount, or change agent.state",
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another {who} runs on this state folder",
                where=str(folder),
                remedy="stop it, or change agent.state",
            ) from error
        yield
    finally:
        os.close(handle)
