"""The load generator, compiled with the machine's C compiler, and one run of it."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_SOURCE = Path(__file__).with_name("loadgen.c")
_FINISH_S = 60.0


class LoadError(Exception):
    """The generator could not do what it was told, so nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the generator saw in one run."""

    sent: int
    acked: int
    received: int
    acked_per_s: float
    received_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float
    run_s: float
    lost_connections: int


def build(folder: Path) -> Path:
    """Compile the generator into a folder; return the program.

    Raises:
        LoadError: without a C compiler and OpenSSL's headers.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise LoadError("no C compiler: install gcc and libssl-dev")
    program = folder / "loadgen"
    made = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-o", program, _SOURCE, "-lssl", "-lcrypto"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise LoadError(f"the generator does not compile (libssl-dev?): {made.stderr[-800:]}")
    return program


class Load:
    """Clients that are connected and warm; `go` lets them run once."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.ready = 0
        self.connect_s = 0.0

    def connect(self) -> None:
        """Wait until every client is connected and warm.

        Raises:
            LoadError: when one is refused.
        """
        ready = self._line()
        self.ready = int(ready["ready"])
        self.connect_s = float(ready["connect_s"])
        if ready["failed"] or ready["denied"]:
            raise LoadError(f"{ready['failed']} clients refused, {ready['denied']} subscriptions")

    def _line(self) -> dict[str, Any]:
        output = self._process.stdout
        line = output.readline() if output else ""
        if not line:
            self._process.kill()
            error = self._process.stderr.read() if self._process.stderr else ""
            raise LoadError(f"the generator gave up: {error[-800:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self) -> Seen:
        """Run; every connection has to live through it.

        Raises:
            LoadError: when one was lost, or the generator failed.
        """
        if self._process.stdin:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        seen = Seen(**self._line())
        if seen.lost_connections:
            raise LoadError(f"the broker closed {seen.lost_connections} connections")
        return seen

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_FINISH_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


@contextmanager
def load(program: Path, arguments: Sequence[str]) -> Iterator[Load]:
    """Connect clients; they hang up when the block ends."""
    process = subprocess.Popen(
        [str(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Load(process) as connected:
        connected.connect()
        yield connected
