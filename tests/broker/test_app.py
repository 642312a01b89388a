"""The stand-alone broker as a process."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect as dial
from websockets.typing import Subprotocol

from tests.broker.harness import connect
from tests.broker.test_recovery import start
from tests.fakes.ports import free_port


def test_sigterm_ends_it_quietly(tmp_path: Path) -> None:
    process = start(tmp_path, free_port())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[listen]\ntls = false\nport = PORT\n", 3, "in use"),
        ("[listen]\nport = 0\n", 3, "cannot load the identity"),
        ("[listen]\nprot = 0\n", 3, "did you mean port?"),
        ('[listen]\ntls = false\nport = 0\n[store]\npath = "/proc/nowhere/b.db"\n', 1, "/proc"),
    ],
)
def test_fault_is_one_line(text: str, code: int, said: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "broker.toml"
        config.write_text(text.replace("PORT", str(taken.getsockname()[1])))
        done = subprocess.run(
            [sys.executable, "-m", "plantroom.broker", str(config)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("plantroom: ")
    assert said in line


def test_configuration_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "plantroom.broker"], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 2


def test_second_listener_speaks_websocket(tmp_path: Path) -> None:
    plain, web = free_port(), free_port()
    config = tmp_path / "broker.toml"
    config.write_text(
        f'[listen]\nport = {plain}\ntls = false\n[store]\nkind = "memory"\n'
        f"[websocket]\nenabled = true\nport = {web}\ntls = false\n"
        "[access]\nallow_all = true\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "plantroom.broker", str(config)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if b"ws://127.0.0.1:%d" % web in line:
                break
        with dial(f"ws://127.0.0.1:{web}", subprotocols=[Subprotocol("mqtt")]) as web_socket:
            web_socket.send(connect("web"))
            assert web_socket.recv(timeout=20) == b"\x20\2\0\0"
    finally:
        process.terminate()
        process.communicate(timeout=20)
