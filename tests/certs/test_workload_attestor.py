"""Selectors of real processes."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.certs import workload_attestor
from plantroom.wire import unix_socket
from plantroom.wire.unix_socket import Peer


@pytest.fixture
def ourselves() -> Iterator[Peer]:
    near, far = socket.socketpair()
    with contextlib.closing(near), contextlib.closing(far):
        peer = unix_socket.peer_of(near)
        with contextlib.closing(peer):
            yield peer


def test_a_process_has_its_user_group_and_program(ourselves: Peer) -> None:
    found = workload_attestor.selectors_of(ourselves)
    program = Path("/proc/self/exe").readlink()
    wanted = {f"unix:uid:{os.geteuid()}", f"unix:gid:{os.getegid()}", f"unix:path:{program}"}
    assert wanted <= found
    assert not any(one.startswith("unix:sha256:") for one in found)


def test_the_programs_digest_is_read_only_when_it_is_asked_for(ourselves: Peer) -> None:
    digest = hashlib.sha256(Path(sys.executable).resolve().read_bytes()).hexdigest()
    assert f"unix:sha256:{digest}" in workload_attestor.selectors_of(ourselves, hashed=True)
    assert workload_attestor.wants_hash(["unix:uid:0", "unix:sha256:00"])
    assert not workload_attestor.wants_hash(["unix:uid:0"])


def test_a_program_that_is_too_large_has_no_digest(
    ourselves: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload_attestor, "HASHED_BYTES_MAX", 1000)
    assert "unix:sha256:too-large" in workload_attestor.selectors_of(ourselves, hashed=True)


def test_a_process_that_has_ended_has_no_selectors_whoever_has_its_number_now() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        handle = os.pidfd_open(child.pid)
        gone = Peer(pid=child.pid, uid=0, gid=0, pid_handle=handle)
        with contextlib.closing(gone):
            assert workload_attestor.selectors_of(gone)
            child.communicate(b"\n", timeout=30)
            reused = Peer(pid=os.getpid(), uid=0, gid=0, pid_handle=handle)
            assert workload_attestor.selectors_of(gone) == frozenset()
            assert workload_attestor.selectors_of(reused) == frozenset()


def test_a_process_of_another_namespace_has_what_the_kernel_vouches_for() -> None:
    found = workload_attestor.selectors_of(Peer(pid=0, uid=4711, gid=4712))
    assert found == {"unix:uid:4711", "unix:gid:4712"}


@pytest.mark.parametrize(
    ("entry", "matches"),
    [
        (("unix:uid:0",), True),
        (("unix:uid:0", "unix:gid:0"), True),
        (("unix:uid:0", "unix:path:/x"), False),
        (("tpm:pub_hash:00",), False),
        ((), False),
    ],
)
def test_an_entry_is_for_who_has_every_one_of_its_selectors(
    entry: tuple[str, ...],
    matches: bool,  # noqa: FBT001 -- a row of the table
) -> None:
    found = frozenset({"unix:uid:0", "unix:gid:0"})
    assert workload_attestor.matches(entry, found) is matches
