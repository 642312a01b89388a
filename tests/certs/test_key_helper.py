"""Starting the helper process: what it gives, and what is said when it does not."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from plantroom.certs import key_helper, request
from plantroom.wire.errors import StorageError
from plantroom.wire.spiffe import SpiffeId

SENSOR = SpiffeId.parse("spiffe://building-1.smart.local/agent/hvac-001")


def descriptors() -> set[tuple[str, str]]:
    """Return what is open; what others opened may be closed by the collector meanwhile."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the folder's own, which is closed by now
            found.add((link.name, str(link.readlink())))
    return found


def children() -> set[int]:
    """Return the processes that this one started and did not reap yet."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            _, _, fields = stat.read_text().rpartition(")")
            if int(fields.split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def test_a_key_and_its_request_come_back_and_nothing_stays_open() -> None:
    before = descriptors()
    made = key_helper.make(SENSOR)
    assert request.read(made.csr_pem)
    assert made.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert not descriptors() - before


@pytest.mark.parametrize(
    ("script", "what", "timeout_s"),
    [
        ("exit 3", "status 3", 30.0),
        ("exec sleep 60", "took too long", 0.5),
        ("exec yes", "printed too much", 30.0),
        ("echo nothing useful", "status 0", 30.0),
    ],
)
def test_a_helper_that_fails_is_named_and_reaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, what: str, timeout_s: float
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    before, others = descriptors(), children()
    with pytest.raises(StorageError, match=what):
        key_helper.make(SENSOR, timeout_s=timeout_s)
    assert not descriptors() - before
    assert not children() - others


def test_a_helper_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StorageError, match="cannot be started"):
        key_helper.make(SENSOR)
