"""Sockets made and dialled on this machine; other users take part where root runs the tests."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from plantroom.wire import unix_socket
from plantroom.wire.errors import ConfigError, IdentityError, UnreachableError

NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.sock"


@pytest.fixture
def listening(path: Path) -> Iterator[socket.socket]:
    with closing(unix_socket.bind(path, mode=0o666)) as made:
        made.listen()
        yield made


def test_both_ends_know_who_the_other_is(path: Path, listening: socket.socket) -> None:
    with closing(unix_socket.dial(path, owners=(), timeout_s=5)) as near:
        far, _ = listening.accept()
        with closing(far):
            peer = unix_socket.peer_of(far)
            with closing(peer):
                assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
                assert peer.is_alive
            assert unix_socket.peer_of(near, follow=False).uid == os.geteuid()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_peer_that_has_ended_is_not_alive(path: Path, listening: socket.socket) -> None:
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); input()"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE) as child:
        far, _ = listening.accept()
        with closing(far), closing(unix_socket.peer_of(far)) as peer:
            assert peer.pid == child.pid
            assert peer.is_alive
            child.communicate(b"\n", timeout=30)
            assert not peer.is_alive


def test_a_socket_that_a_killed_process_left_is_replaced(path: Path) -> None:
    unix_socket.bind(path, mode=0o600).close()
    with closing(unix_socket.bind(path, mode=0o600)):
        assert stat.S_ISSOCK(path.lstat().st_mode)


@pytest.mark.usefixtures("listening")
def test_a_socket_on_which_somebody_answers_is_left_alone(path: Path) -> None:
    with pytest.raises(ConfigError, match="another process answers there"):
        unix_socket.bind(path, mode=0o600)


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_no_socket_is_never_removed(path: Path, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere.sock")
    with pytest.raises(ConfigError, match="no socket lies there"):
        unix_socket.bind(path, mode=0o600)
    assert path.is_symlink() or path.exists()


def test_a_folder_that_others_may_write_into_is_refused(path: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"):
        unix_socket.bind(path, mode=0o600)
    tmp_path.chmod(0o1777)  # as /tmp is: there nobody can remove what is ours
    unix_socket.bind(path, mode=0o600).close()


def test_a_missing_folder_is_made_for_us_alone_to_write_into(tmp_path: Path) -> None:
    before = os.umask(0o002)  # as users with a group of their own have it
    try:
        unix_socket.bind(tmp_path / "new" / "a.sock", mode=0o600).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o755
    with pytest.raises(ConfigError, match="cannot make the socket"):
        unix_socket.bind(tmp_path / "neither" / "nor" / "a.sock", mode=0o600)


@root_only
def test_a_strangers_folder_and_a_strangers_socket_are_refused(path: Path, tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="folder is another user's"):
        unix_socket.bind(path, mode=0o600)
    os.chown(tmp_path, 0, 0)
    unix_socket.bind(path, mode=0o600).close()
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="another user's socket"):
        unix_socket.bind(path, mode=0o600)


def test_a_socket_is_removed_only_by_who_made_it(path: Path) -> None:
    unix_socket.bind(path, mode=0o600).close()
    first = path.lstat()
    path.rename(path.with_name("first"))  # keeps its inode from being used again
    unix_socket.bind(path, mode=0o600).close()
    unix_socket.remove(path, first)
    assert path.exists()
    unix_socket.remove(path, path.lstat())
    assert not path.exists()
    unix_socket.remove(path, first)  # gone already


def test_a_link_to_a_socket_is_not_dialled(tmp_path: Path, listening: socket.socket) -> None:
    link = tmp_path / "link.sock"
    link.symlink_to(listening.getsockname())
    for where in (link, tmp_path):
        with pytest.raises(IdentityError) as caught:
            unix_socket.dial(where, owners=(), timeout_s=5)
        assert caught.value.reason == "socket"


def test_a_missing_and_a_dead_socket_can_come_yet(path: Path) -> None:
    with pytest.raises(UnreachableError, match="No such file"):
        unix_socket.dial(path, owners=(), timeout_s=5)
    unix_socket.bind(path, mode=0o600).close()
    with pytest.raises(UnreachableError, match="nobody listens"):
        unix_socket.dial(path, owners=(), timeout_s=5)


@root_only
def test_a_strangers_socket_is_dialled_only_when_it_is_allowed(
    path: Path, listening: socket.socket
) -> None:
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(IdentityError, match=f"socket is that of user {NOBODY}"):
        unix_socket.dial(path, owners=(), timeout_s=5)
    unix_socket.dial(path, owners=(NOBODY,), timeout_s=5).close()
    assert listening


@root_only
def test_a_stranger_behind_a_file_of_ours_is_found_out(tmp_path: Path, path: Path) -> None:
    tmp_path.chmod(0o777)
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); "
        "s = socket.socket(fileno=0); s.listen(); print('ready', flush=True); s.accept()"
    )
    with ExitStack() as stack:
        bound = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        bound.bind(str(path))  # the file is ours, the listener is not
        child = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", code], stdin=bound.fileno(), stdout=subprocess.PIPE
            )
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(IdentityError, match=f"user {NOBODY} listens there"):
            unix_socket.dial(path, owners=(), timeout_s=5)
        child.kill()


def test_a_long_path_is_reached_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["deep" * 10] * 3)
    folder.mkdir(parents=True)
    path = folder / "a.sock"
    with closing(unix_socket.bind(path, mode=0o600)) as made:
        made.listen()
        unix_socket.dial(path, owners=(), timeout_s=5).close()
