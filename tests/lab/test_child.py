import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from plantroom.lab import child as module
from plantroom.lab.child import Child, GoneError, Program, last_line
from plantroom.wire.errors import ConfigError
from tests.fakes.waiting import until

DEADLINE_S = 60.0


class Script(Program):
    """A program that is a Python script."""

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-u", str(self.config))


class Watched:
    """A child with what it says, and an event for every change."""

    def __init__(self, folder: Path, script: str) -> None:
        config = folder / "script.py"
        config.write_text(script)
        self.log = folder / "script.log"
        self.said: list[str] = []
        self.changed = asyncio.Event()
        program = Script(name="script", kind="", config=config, log=self.log)
        self.child = Child(program, tell=self.said.append, changed=self.changed.set)

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not claim():
                self.changed.clear()
                try:
                    await asyncio.wait_for(self.changed.wait(), 0.05)
                except TimeoutError:
                    continue

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.child.run(), name="test.child")
            try:
                yield
            finally:
                await self.child.stop(deadline_s=DEADLINE_S)


PATIENT = "import time\nprint('up')\ntime.sleep(600)\n"


def test_a_killed_child_is_named_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.01)

    async def main() -> None:
        watched = Watched(tmp_path, PATIENT)
        async with watched.running():
            await watched.until(lambda: watched.log.exists() and "up" in watched.log.read_text())
            first = watched.child.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await watched.until(lambda: watched.log.read_text().count("up") == 2)
            assert watched.child.pid not in {first, None}
        assert watched.said == ["script was killed by SIGKILL, started again in 0.01 s"]
        assert watched.child.pid is None

    asyncio.run(main())


def test_the_pause_grows_with_every_early_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.01)

    async def main() -> None:
        watched = Watched(tmp_path, "raise SystemExit(7)\n")
        async with watched.running():
            await watched.until(lambda: len(watched.said) == 3)
        assert watched.said == [
            f"script ended with exit code 7, started again in {pause:g} s"
            for pause in (0.01, 0.02, 0.04)
        ]

    asyncio.run(main())


@pytest.mark.parametrize("code", [2, 3])
def test_a_child_that_complains_about_its_configuration_is_not_started_again(
    tmp_path: Path, code: int
) -> None:
    async def main() -> None:
        complaint = f"import sys\nprint('key is wrong', file=sys.stderr)\nsys.exit({code})\n"
        watched = Watched(tmp_path, complaint)
        with pytest.raises(ConfigError, match=r"script cannot start: key is wrong, .*script\.py"):
            await watched.child.run()

    asyncio.run(main())


def test_what_a_child_ended_with_stands_beside_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that somebody takes between two lives is named where `up` was started."""
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.01)

    async def main() -> None:
        once = "import pathlib, sys\nlived = pathlib.Path(__file__ + '.lived')\n"
        first = "if not lived.exists():\n    lived.touch()\n    sys.exit(1)\n"
        then = "print('plantroom: port 1 is taken: free it', file=sys.stderr)\nsys.exit(3)\n"
        watched = Watched(tmp_path, once + first + then)
        async with watched.running():
            await watched.until(lambda: len(watched.said) == 2)
        assert watched.said == [
            "script ended with exit code 1, started again in 0.01 s",
            "script ended with exit code 3 (port 1 is taken: free it), started again in 0.02 s",
        ]

    asyncio.run(main())


def test_a_folder_that_cannot_be_looked_at_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that fails: the others go on, and this one is tried again."""
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.01)

    class Ending(Program):
        @property
        def command(self) -> tuple[str, ...]:
            return (sys.executable, "-c", "raise SystemExit(1)")

    async def main() -> None:
        said: list[str] = []
        config = tmp_path / ("x" * 300)  # a name that no file can have: neither there nor gone
        program = Ending(name="script", kind="", config=config, log=tmp_path / "log")
        again = asyncio.Event()

        def tell(text: str) -> None:
            said.append(text)
            again.set()

        child = Child(program, tell=tell, changed=lambda: None)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(child.run(), name="test.child")
            await again.wait()
            await child.stop(deadline_s=DEADLINE_S)
        assert said[0] == "script ended with exit code 1, started again in 0.01 s"

    asyncio.run(main())


def test_what_a_process_of_ours_says_is_not_introduced_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == "it wrote no log"
    log.write_text("starting\nplantroom: port is taken, 127.0.0.1:1: choose another\n")
    assert last_line(log) == "port is taken, 127.0.0.1:1: choose another"


def test_a_child_that_does_not_stop_is_killed_at_its_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PATIENT
        watched = Watched(tmp_path, stubborn)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watched.child.run(), name="test.child")
            await watched.until(lambda: watched.log.exists() and "up" in watched.log.read_text())
            await watched.child.stop(deadline_s=0.2)
        assert watched.said == ["script did not stop within 0.2 s and was killed"]

    asyncio.run(main())


def test_a_full_log_becomes_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 10)

    async def main() -> None:
        watched = Watched(tmp_path, PATIENT)
        watched.log.write_text("eleven chars and more")
        async with watched.running():
            await watched.until(lambda: watched.log.read_text() == "up\n")
        assert watched.log.with_suffix(".log.1").read_text() == "eleven chars and more"

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_children_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    supervisor = f"""
import asyncio, pathlib, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
from test_child import PATIENT, Watched
async def main():
    watched = Watched(pathlib.Path({str(tmp_path)!r}), PATIENT)
    async with watched.running():
        await watched.until(lambda: watched.log.exists() and "up" in watched.log.read_text())
        print(watched.child.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""

    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        alive = Path(f"/proc/{int(process.stdout.readline())}/exe")
        assert alive.exists()
        process.kill()
    until(lambda: not alive.exists(), deadline_s=DEADLINE_S, what="the child's end")


def test_a_child_whose_folder_is_gone_is_said_to_be_so(tmp_path: Path) -> None:
    script = "from pathlib import Path\nimport sys\nPath(sys.argv[0]).unlink()\nsys.exit(1)\n"
    watched = Watched(tmp_path, script)
    with pytest.raises(GoneError, match=r"script ended with exit code 1 and its folder is gone"):
        asyncio.run(watched.child.run())
    assert watched.said == []


def test_a_child_runs_also_where_no_log_can_be_written(tmp_path: Path) -> None:
    async def main() -> None:
        watched = Watched(tmp_path, PATIENT)
        watched.log.mkdir()
        async with watched.running():
            await watched.until(lambda: watched.child.pid is not None)
        [said] = watched.said
        assert said.startswith("script runs without a log: Is a directory")

    asyncio.run(main())
