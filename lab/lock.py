"""One `up` a state folder: an advisory lock that dies with its holder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from plantroom.certs import atomic
from plantroom.lab.layout import Layout
from plantroom.wire.errors import ConfigError


@contextlib.contextmanager
def held(layout: Layout) -> Iterator[None]:
    """Hold the lock of this state folder.

    Raises:
        ConfigError: when the folder cannot be written, or a building runs in it.
    """
    handle = _open(layout.lock)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"a building is running here already (pid {_holder(handle)})",
                where=str(layout.state),
                remedy="stop it with `plantroom down`, or choose another folder with --state",
            ) from error
        with atomic.translated(layout.lock):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(layout: Layout) -> int | None:
    """Return the pid of the `up` that holds the lock, None when none does."""
    try:
        handle = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(handle)
    finally:
        os.close(handle)
    return None


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the state folder cannot be written: {error.strerror}",
            where=str(path.parent),
            remedy="check owner and mount, or choose another folder with --state",
        ) from error


def _holder(handle: int) -> int | None:
    text = os.pread(handle, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else None
