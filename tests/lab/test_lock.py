import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plantroom.lab import lock
from plantroom.lab.layout import Layout
from plantroom.wire.errors import ConfigError

HOLD = """
import sys
from pathlib import Path
from plantroom.lab import lock
from plantroom.lab.layout import Layout
with lock.held(Layout(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(state: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate(timeout=10)


def test_a_second_holder_is_told_who_holds_it_and_what_to_do(tmp_path: Path) -> None:
    other = holding(tmp_path)
    try:
        with (
            pytest.raises(ConfigError, match=rf"pid {other.pid}.*plantroom down.*--state"),
            lock.held(Layout(tmp_path)),
        ):
            pass
        assert lock.holder(Layout(tmp_path)) == other.pid
    finally:
        end(other, signal.SIGTERM)


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    end(holding(tmp_path), signal.SIGKILL)
    assert lock.holder(Layout(tmp_path)) is None
    with lock.held(Layout(tmp_path)):
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"
    assert lock.holder(Layout(tmp_path)) is None


def test_nobody_holds_the_lock_of_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert lock.holder(Layout(tmp_path / "nowhere")) is None
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"cannot be written.*--state"),
        lock.held(Layout(tmp_path / "file" / "state")),
    ):
        pass
