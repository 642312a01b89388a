"""Unix sockets between processes of one machine: made safely, dialled safely, and who is there.

A socket's file says nothing about who listens behind it once it has been replaced; the kernel does
(SO_PEERCRED, the credentials of `listen` and `connect`), so both ends ask the kernel.
"""

import contextlib
import os
import select
import socket
import stat
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantroom.wire.errors import ConfigError, IdentityError, UnreachableError

_ADDRESS_BYTES_MAX = 100  # the kernel takes 107
_CREDENTIALS = struct.Struct("3i")
_SO_PEERPIDFD = 77  # Linux 6.5 and newer; Python has no name for it
_BACKLOG = 128
_FOLDER_MODE = 0o755
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Name a socket by its folder's descriptor where its path is longer than the kernel takes."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The process at the other end, as the kernel noted it when the connection was made.

    `pid` is 0 where it lives in a process namespace that this one cannot see. `pid_handle` is a
    descriptor of that very process (-1: none), so that a pid that is used again is noticed.
    """

    pid: int
    uid: int
    gid: int
    pid_handle: int = -1

    @property
    def is_alive(self) -> bool:
        """Whether that process, and not another one with its number, still runs."""
        if self.pid_handle < 0:
            return False
        poll = select.poll()
        poll.register(self.pid_handle, select.POLLIN)  # readable: it has ended
        return not poll.poll(0)

    def close(self) -> None:
        """Give the descriptor back; to be called once."""
        if self.pid_handle >= 0:
            os.close(self.pid_handle)


def peer_of(connection: Any, *, follow: bool = True) -> Peer:
    """Return who is at the other end of a connected Unix socket; `follow` takes the descriptor."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(credentials)
    handle = _pid_handle(connection, pid) if follow and pid > 0 else -1
    return Peer(pid=pid, uid=uid, gid=gid, pid_handle=handle)


def _pid_handle(connection: Any, pid: int) -> int:
    try:
        handle: int = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:  # an older kernel: by its number, which is still its own right after `accept`
        try:
            return os.pidfd_open(pid)
        except OSError:
            return -1
    os.set_inheritable(handle, False)
    return handle


def bind(path: Path, *, mode: int) -> socket.socket:
    """Make a socket at `path`, ready for `listen`; what a killed process of ours left is replaced.

    Its folder is made if there is none; then only we may write there, whatever the umask is.

    Raises:
        ConfigError: when another one answers there, something else lies there, or somebody else
            could replace it.
    """
    _make_folder(path)
    _check_folder(path)
    _check_replaceable(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(path) as address:
            if made.connect_ex(address) == 0:
                raise _cannot("another process answers there", path, "stop that one")
            path.unlink(missing_ok=True)
            made.bind(address)
        path.chmod(mode)  # before anybody can connect: it does not listen yet
    except ConfigError:
        made.close()
        raise
    except OSError as error:
        made.close()
        raise _cannot(f"cannot make the socket: {error.strerror}", path) from error
    return made


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir()
        path.parent.chmod(_FOLDER_MODE)
    except FileExistsError:
        return
    except OSError as error:
        raise _cannot(f"cannot make the socket: {error.strerror}", path) from error


def _check_folder(path: Path) -> None:
    try:
        status = path.parent.stat()
    except OSError as error:
        raise _cannot(f"cannot make the socket: {error.strerror}", path) from error
    if status.st_uid not in {0, os.geteuid()}:
        raise _cannot("the socket's folder is another user's", path)
    if status.st_mode & _OTHERS_MAY_WRITE and not status.st_mode & stat.S_ISVTX:
        raise _cannot("others may write into the socket's folder", path, "chmod go-w its folder")


def _check_replaceable(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot(f"cannot make the socket: {error.strerror}", path) from error
    if not stat.S_ISSOCK(status.st_mode):  # a symbolic link too: it could lead anywhere
        raise _cannot("something that is no socket lies there", path)
    if status.st_uid != os.geteuid():
        raise _cannot("another user's socket lies there", path)


def _cannot(what: str, path: Path, remedy: str = "choose another place for it") -> ConfigError:
    return ConfigError(what, where=str(path), remedy=remedy)


def remove(path: Path, made: os.stat_result) -> None:
    """Remove the socket that was made there, and no other that has taken its place since."""
    with contextlib.suppress(OSError):
        if os.path.samestat(path.lstat(), made):
            path.unlink()


def dial(path: Path, *, owners: Collection[int], timeout_s: float) -> socket.socket:
    """Connect to a socket of one of these users; root's and our own are always good.

    Raises:
        UnreachableError: when there is none, or nobody listens.
        IdentityError: with reason `socket` when it is a symbolic link, no socket, or its file or
            the process behind it is a stranger's.
    """
    allowed = {0, os.geteuid(), *owners}
    try:
        status = path.lstat()
    except OSError as error:
        raise UnreachableError(f"no socket: {error.strerror}", where=str(path)) from error
    if not stat.S_ISSOCK(status.st_mode):  # a symbolic link could lead to anybody's socket
        raise _stranger("it is a link, not a socket" if _is_link(status) else "not a socket", path)
    if status.st_uid not in allowed:
        raise _stranger(f"the socket is that of user {status.st_uid}", path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout_s)
        with short_address(path) as address:
            made.connect(address)
        listener = peer_of(made, follow=False).uid
        if listener not in allowed:  # it was replaced in between
            raise _stranger(f"user {listener} listens there", path)
    except OSError as error:
        made.close()
        raise UnreachableError(
            f"nobody listens: {error.strerror or error}", where=str(path)
        ) from error
    except IdentityError:
        made.close()
        raise
    return made


def _is_link(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode)


def _stranger(what: str, path: Path) -> IdentityError:
    return IdentityError(
        what,
        reason="socket",
        where=str(path),
        remedy="name the socket itself, of root, of this user, or of one that is allowed",
    )
