"""One process of a building: started, watched, started again with back-off, stopped in time."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from plantroom.lab import launch
from plantroom.wire.errors import ConfigError

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
STEADY_S = 3.0  # whoever has lived as long did not die of its start
STOP_DEADLINE_S = 15.0
LOG_BYTES_MAX = 16 * 1024 * 1024
_EXITS_THAT_NO_RETRY_MENDS = (2, 3)
_LAST_LINE_BYTES_MAX = 4096
_OURS = "plantroom: "  # how an error begins that one of our programs ends with


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run: `python -m plantroom.<kind> CONFIG`, and where its output goes."""

    name: str
    kind: str
    config: Path
    log: Path

    @property
    def command(self) -> tuple[str, ...]:
        """The command line, which is also how the process is known in `ps`."""
        return (sys.executable, "-m", f"plantroom.{self.kind}", str(self.config))


class GoneError(ConfigError):
    """The folder of a process is no longer there: its disk is gone, or somebody removed it."""


class Child:
    """A program that is kept running until it is told to stop."""

    def __init__(
        self, program: Program, *, tell: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.name = program.name
        self._program = program
        self._tell = tell
        self._changed = changed
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None between two lives."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def run(self) -> None:
        """Keep the program running.

        Raises:
            ConfigError: when its first start ends with a complaint about its configuration.
            GoneError: when it ended, and there is no configuration to start it with.
        """
        loop = asyncio.get_running_loop()
        pause_s, first = BACKOFF_FIRST_S, True
        while not self._stopping.is_set():
            started_s = loop.time()
            code = await self._live()
            if self._stopping.is_set():
                return
            if first and code in _EXITS_THAT_NO_RETRY_MENDS:
                raise self._misconfigured()
            first = False
            if _is_gone(self._program.config):
                raise GoneError(
                    f"{self.name} {_ended(code)} and its folder is gone",
                    where=str(self._program.config.parent),
                )
            if loop.time() - started_s > STEADY_S:
                pause_s = BACKOFF_FIRST_S
            why = complaint(self._program.log) if code > 0 else ""
            self._tell(f"{self.name} {_ended(code)}{why}, started again in {pause_s:g} s")
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)

    async def stop(self, *, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Ask the process to stop; kill it when it has not within the deadline. Idempotent."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), deadline_s)
        except TimeoutError:
            self._tell(f"{self.name} did not stop within {deadline_s:g} s and was killed")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def trim_log(self) -> None:
        """Keep the log bounded: when it is full, it becomes the previous one."""
        log = self._program.log
        with contextlib.suppress(OSError):
            if log.stat().st_size > LOG_BYTES_MAX:
                log.with_suffix(".log.1").write_bytes(log.read_bytes())
                os.truncate(log, 0)  # the process appends: its next line starts the new one

    async def _live(self) -> int:
        self.trim_log()
        with self._open_log() as log:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid())),
                *self._program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone
            )
        self._changed()
        if self._stopping.is_set():
            process.terminate()
        code = await process.wait()
        self._changed()
        return code

    def _open_log(self) -> BinaryIO:
        log = self._program.log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            return log.open("ab")
        except OSError as error:
            self._tell(f"{self.name} runs without a log: {error.strerror}, {log}")
            return Path(os.devnull).open("ab")

    async def _pause(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)

    def _misconfigured(self) -> ConfigError:
        return ConfigError(
            f"{self.name} cannot start: {last_line(self._program.log)}",
            where=str(self._program.config),
            remedy=f"mend it; the whole log is {self._program.log}",
        )


def _is_gone(path: Path) -> bool:
    """Say whether it is certainly not there; on a disk that fails nobody knows."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def last_line(log: Path) -> str:
    """Return the last line that a process wrote, as part of a line of ours."""
    try:
        return _last_line(log).removeprefix(_OURS) or "its log is empty"
    except OSError:
        return "it wrote no log"


def complaint(log: Path) -> str:
    """Return in brackets what a process of ours ended with, nothing when it did not say."""
    with contextlib.suppress(OSError):
        line = _last_line(log)
        return f" ({line.removeprefix(_OURS)})" if line.startswith(_OURS) else ""
    return ""


def _last_line(log: Path) -> str:
    tail = log.read_bytes()[-_LAST_LINE_BYTES_MAX:].decode(errors="replace").strip()
    return tail.splitlines()[-1] if tail else ""


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
