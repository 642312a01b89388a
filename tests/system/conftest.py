"""A whole building in processes of its own, driven through its command line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.ports import free_ports
from tests.fakes.waiting import until
from tests.system.judge import Row, exported

PLANTROOM = (sys.executable, "-m", "plantroom.cli.main")
READY_S = 60.0
COMMAND_S = 60.0
DATA = Path(__file__).parents[3] / "shared" / "data"


def recording(name: str) -> Path:
    """Return a recorded room, or skip where it is not."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the recording {name} is not at {DATA}")
    return path


def alive(pid: int) -> bool:
    """Say whether this process runs."""
    return Path(f"/proc/{pid}/exe").exists()


class Building:
    """One state folder, and the `plantroom up` that runs in it now."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port_base = free_ports(7)
        self.up: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    def run(
        self, *words: str, environ: Mapping[str, str] | None = None, timeout_s: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [*PLANTROOM, *words, "--state", str(self.state)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **(environ or {})},
        )

    def json(self, *words: str) -> Any:
        """Run a command that prints one JSON document, and return it."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr + self.said() + self.logs()
        return json.loads(done.stdout)

    def start(self, *flags: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Start `up` and wait for its line."""
        errors = (self.state.parent / f"{self.state.name}.stderr").open("ab")
        self.up = subprocess.Popen(
            [
                *(*PLANTROOM, "up", "--json", "--state", str(self.state)),
                *("--port-base", str(self.port_base), *flags),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        errors.close()
        assert self.up.stdout is not None
        line = self.up.stdout.readline()
        assert line, f"up ended with {self.up.wait()}: {self.said()}{self.logs()}"
        self.ready = json.loads(line)
        return self.ready

    def register(self, spiffe_id: str) -> None:
        """Make an entry while the building runs, and wait until its policy follows."""
        before = self.json("status", "--json")["policy"]["registry"]
        assert self.run("identity", "entry", "create", spiffe_id).returncode == 0
        until(
            lambda: self.json("status", "--json")["policy"]["registry"] > before,
            deadline_s=60,
            what="a policy that knows the new entry",
        )

    def said(self) -> str:
        """Return what `up` has written to stderr, in all its lives."""
        return (self.state.parent / f"{self.state.name}.stderr").read_text()

    def logs(self) -> str:
        """Return the ends of all logs, for the message of a failed test."""
        logs = sorted((self.state / "logs").glob("*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text()[-1500:]}" for log in logs)

    def pids(self) -> dict[str, int]:
        """Return the processes that run now, by name."""
        pids: dict[str, int] = json.loads((self.state / "up.json").read_text())["pids"]
        return pids

    def kill(self, name: str) -> int:
        """Kill one process the hard way; it is gone when this returns."""

        def living() -> int:
            pid = self.pids().get(name, 0)  # may be of the life before: `up` has not noticed yet
            return pid if pid and alive(pid) else 0

        pid = until(living, deadline_s=READY_S, what=f"a pid of {name}")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid), deadline_s=READY_S, what=f"the end of {name}")
        return pid

    def wait(self, *, deadline_s: float) -> int:
        """Wait until `up` ends by itself, and return its exit code."""
        assert self.up is not None
        assert self.up.stdout is not None
        code = self.up.wait(deadline_s)
        self.up.stdout.close()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, *, deadline_s: float = 60.0) -> int:
        """Stop `up` as Ctrl-C does, and return its exit code."""
        assert self.up is not None
        self.up.send_signal(number)
        return self.wait(deadline_s=deadline_s)

    def export(self, device: str) -> list[Row]:
        """Return what the cloud store has of a device, through the command line."""
        done = self.run("readings", "export", "--device", device)
        assert done.returncode == 0, done.stderr
        return exported(done.stdout.splitlines(), device)

    def close(self) -> None:
        """Leave no process behind."""
        if self.up is None:
            return
        if self.up.poll() is None:
            self.up.terminate()
            try:
                self.up.wait(30)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
        self.wait(deadline_s=60)


Make = Callable[..., Building]


@pytest.fixture
def make_building(tmp_path: Path) -> Iterator[Make]:
    """Make buildings that are gone when the test ends."""
    made: list[Building] = []

    def make(name: str = "state") -> Building:
        building = Building(tmp_path / name)
        made.append(building)
        return building

    yield make
    for building in made:
        building.close()


@pytest.fixture
def building(make_building: Make) -> Building:
    """One building, not started yet."""
    return make_building()
