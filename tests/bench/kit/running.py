"""Processes under measurement: start, wait for the port, CPU seconds and memory, stop."""

import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
_START_S = 20.0
_STOP_S = 15.0


class StartError(Exception):
    """A process did not come up; the text is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process that listens on `port`."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used, user and system, of all threads.

        Not from `/proc`, which counts hundredths: an idle broker uses a dozen of them in a run.
        """
        clock = ctypes.c_int()
        failed = ctypes.CDLL(None).clock_getcpuclockid(self.process.pid, ctypes.byref(clock))
        if failed:
            raise ProcessLookupError(failed, os.strerror(failed), self.process.pid)
        return time.clock_gettime(clock.value)

    def rss_mb(self) -> float:
        """Return its resident memory in megabytes (10^6 bytes)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) * 1024 / 1e6 if found else 0.0

    def log(self) -> str:
        """Return what it said."""
        return (self.folder / "log").read_text(errors="replace")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], *, port: int, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a process until the block ends; its output goes to `folder`/log.

    Raises:
        StartError: when nothing listens on the port in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    started = Running(process, port, folder)
    try:
        _await_port(started)
        yield started
    finally:
        _stop(process)


def _await_port(started: Running) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and started.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", started.port), 0.3).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise StartError(f"{started.process.args!r} did not start: {started.log()[-1500:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def raise_file_limit() -> None:
    """Let this process and those that it starts open as many files as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
