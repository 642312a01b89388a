"""A building and its cloud under faults: start it, let the storm pass, wait for calm, be judged.

The building is a real `plantroom up` with a state folder of its own, its sensors replaying
recordings that were made for it; both ways (sensors to gateway, gateway to cloud) lead through
networks or proxies here. What was stored is judged by `lab/chaos_judge.py`, a process that shares
no code with the product, and the ledger has to say the same.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from plantroom.lab import chaos_clock, chaos_disk, chaos_judge, chaos_net, chaos_recording, running
from plantroom.lab.chaos_clock import Clock
from plantroom.lab.chaos_disk import Disk
from plantroom.lab.chaos_net import NetWay
from plantroom.lab.chaos_plan import Fault, Schedule, Weather, schedule
from plantroom.lab.chaos_way import BadWay
from plantroom.lab.child import last_line
from plantroom.lab.layout import Layout
from plantroom.lab.ports import BASE_MAX, Ports
from plantroom.wire.errors import ConfigError, UnreachableError

SENSORS: Final = 3
ROWS_PER_S: Final = 10.0  # of each sensor
READY_S: Final = 200.0  # more than `up` itself waits
CALM_S: Final = 240.0  # for everything to arrive, beyond the storm's own length
STOP_S: Final = 60.0
JUDGE_S: Final = 900.0
_PORT_FIRST: Final = 21_000
_PLANTROOM: Final = (sys.executable, "-m", "plantroom.cli.main")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What to do: profile, seed, length, and how big the building is."""

    profile: str
    seed: int
    duration_s: float
    sensors: int = SENSORS
    rows_per_s: float = ROWS_PER_S

    @property
    def rows(self) -> int:
        """The length of each recording: a little longer than the storm."""
        return max(50, round(self.rows_per_s * self.duration_s * 1.1))

    @property
    def processes(self) -> tuple[str, ...]:
        """Who may be killed."""
        names = (chaos_recording.device_name(number) for number in range(1, self.sensors + 1))
        return ("cloud", "gateway", *names)


@dataclass(slots=True, kw_only=True)
class Verdict:
    """How it ended; `judged` is what the judge said, `ledger` what `ledger verify` says."""

    storm: Storm
    judged: dict[str, Any] = field(default_factory=dict)
    ledger: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    took_s: float = 0.0
    ways: str = "proxies"

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, by the judge's word and by the ledger's."""
        return bool(self.judged.get("passed")) and self.ledger == "closes"

    @property
    def line(self) -> str:
        """The last line of the command."""
        counts = {
            word: self.judged.get(word, "?")
            for word in ("lost", "duplicated", "misordered", "altered", "readings", "stored")
        }
        words = (
            counts | {"ledger": self.ledger.replace(" ", "-")} | dict(sorted(self.faults.items()))
        )
        words |= {"profile": self.storm.profile, "seed": self.storm.seed, "ways": self.ways}
        said = " ".join(f"{word}={value}" for word, value in words.items())
        return f"verdict: {'PASS' if self.passed else 'FAIL'} {said}"

    @property
    def plain(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "verdict": "PASS" if self.passed else "FAIL",
            **{k: v for k, v in self.judged.items() if k != "passed"},
            "ledger": self.ledger,
            "faults": dict(self.faults),
            "notes": self.notes,
            "profile": self.storm.profile,
            "seed": self.storm.seed,
            "duration_s": self.storm.duration_s,
            "took_s": round(self.took_s, 1),
            "ways": self.ways,
        }


def unleash(storm: Storm, *, tell: Tell, progress: Tell, keep: Path | None = None) -> Verdict:
    """Run a storm and judge what it has left; `keep` is a folder for the state (else a temporary).

    Raises:
        UnreachableError: when the building does not come up.
        ConfigError: when the folder to keep the state in is not empty.
    """
    plan = schedule(
        storm.profile,
        seed=storm.seed,
        duration_s=storm.duration_s,
        processes=storm.processes,
    )
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise ConfigError("is not empty", where=str(keep), remedy="give a new folder")
    with tempfile.TemporaryDirectory(prefix="plantroom-chaos-") as scratch:
        folder = keep or Path(scratch) / "state"
        folder.mkdir(parents=True, exist_ok=True)
        with chaos_disk.prepared(folder, own=keep is None) as disk:
            clock = Clock(Path(scratch), chaos_clock.library())
            run = _Run(storm, plan, folder, disk, clock, tell=tell, progress=progress)
            return asyncio.run(run.run(Path(scratch)))


class _Run:
    """One storm, from the recordings to the verdict."""

    def __init__(  # noqa: PLR0913 -- what, where, and whom to tell
        self,
        storm: Storm,
        plan: Schedule,
        folder: Path,
        disk: Disk,
        clock: Clock,
        *,
        tell: Tell,
        progress: Tell,
    ) -> None:
        self._storm, self._plan, self._disk, self._clock = storm, plan, disk, clock
        self._layout = Layout(folder / "state")
        self._tell, self._progress = tell, progress
        self._ways: dict[str, BadWay] = {}
        self._verdict = Verdict(storm=storm)
        self._ends: list[tuple[float, Fault]] = []

    async def run(self, scratch: Path) -> Verdict:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        recordings, mapping = chaos_recording.write(
            scratch, seed=self._storm.seed, sensors=self._storm.sensors, rows=self._storm.rows
        )
        ports = _free_ports()
        chance = random.Random(self._storm.seed)  # noqa: S311 -- replayable on purpose
        async with AsyncExitStack() as stack:
            for name, port in (("lan", ports.gateway_mqtt), ("wan", ports.cloud_mqtt)):
                self._ways[name] = await self._way(stack, name, port, chance)
            up = await stack.enter_async_context(self._up(ports, recordings, mapping))
            await self._storm_passes(up)
            await self._calm(up)
        self._verdict.ledger = await asyncio.to_thread(self._ledger)
        self._verdict.judged = await asyncio.to_thread(self._judge, recordings)
        self._verdict.took_s = loop.time() - begun_s
        return self._verdict

    async def _way(
        self, stack: AsyncExitStack, name: str, port: int, chance: random.Random
    ) -> BadWay:
        """Open a way: a network where that is possible, else a proxy."""
        if chaos_net.may():
            try:
                way = await stack.enter_async_context(NetWay(name, port, chance).running())
            except OSError as error:
                self._note(f"way {name} is a proxy: {error}")
            else:
                self._verdict.ways = "networks"
                return way
        return await stack.enter_async_context(BadWay(name, port, chance).running())

    @asynccontextmanager
    async def _up(
        self, ports: Ports, recordings: Sequence[Path], mapping: Path
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start the building; it ends by itself once every row is stored and the books close."""
        replays = [word for path in recordings for word in ("--replay", str(path))]
        speed = self._storm.rows_per_s * 60 / chaos_recording.ROWS_PER_MINUTE
        errors = self._layout.state.parent / "up.stderr"
        with errors.open("ab") as said:
            up = await asyncio.create_subprocess_exec(
                *(*_PLANTROOM, "up", "--json", "--exit-when-stored", *replays),
                *("--map", str(mapping), "--speed", str(speed)),
                *("--port-base", str(ports.gateway_mqtt), "--state", str(self._layout.state)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env={
                    **os.environ,
                    **self._clock.environment,
                    "PLANTROOM_UPLINK_ADDRESS": self._ways["lan"].address,
                    "PLANTROOM_BRIDGE_ADDRESS": self._ways["wan"].address,
                },
                start_new_session=True,
            )
        try:
            self._progress("the building starts …")
            await self._ready(up, errors)
            yield up
        finally:
            await _end(up)

    async def _ready(self, up: asyncio.subprocess.Process, errors: Path) -> None:
        line = b""
        if up.stdout is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_S):
                    line = await up.stdout.readline()
        if not line:
            raise UnreachableError(
                f"the building does not come up; it says: {last_line(errors)}",
                where=str(self._layout.state),
            )

    async def _storm_passes(self, up: asyncio.subprocess.Process) -> None:
        """Let every fault begin and end in its time."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for name, weather in self._plan.weather.items():
            self._ways[name].weather = weather
        waiting = list(self._plan.faults)
        while up.returncode is None and (now_s := loop.time() - begun_s) < self._storm.duration_s:
            while waiting and waiting[0].at_s <= now_s:
                self._begin(waiting.pop(0), now_s)
            for end_s, fault in [one for one in self._ends if one[0] <= now_s]:
                self._ends.remove((end_s, fault))
                self._end(fault)
            self._progress(f"storm: {now_s:.0f} of {self._storm.duration_s:g} s")
            await asyncio.sleep(0.05)
        if waiting:
            self._note(f"{len(waiting)} faults did not happen: everything was stored before")
        for _, fault in self._ends:
            self._end(fault)
        for way in self._ways.values():
            way.weather = Weather()

    def _begin(self, fault: Fault, now_s: float) -> None:
        if fault.kind == "step" and not self._clock.can_step:
            self._note("no clock is stepped: install libfaketime for that")
            return
        self._verdict.faults[f"{fault.kind}s"] += 1
        self._tell(f"{now_s:6.1f} s: {fault.text}")
        if fault.kind == "kill":
            self._kill(fault.target)
            return
        self._ends.append((now_s + fault.lasts_s, fault))
        if fault.kind == "fill":
            self._disk.fill(list(self._pids().values()))
            return
        if fault.kind == "step":
            self._clock.set(fault.off_s)
            return
        way = self._ways[fault.target]
        if fault.kind == "cut":
            way.cut()
        elif fault.kind == "swallow":
            way.swallow()
        elif fault.kind == "throttle":
            way.bytes_per_s = fault.bytes_per_s
        else:
            way.weather = Weather(delay_s=0.5, jitter_s=0.2, loss=0.05)

    def _end(self, fault: Fault) -> None:
        if fault.kind == "fill":
            self._disk.free(list(self._pids().values()))
        elif fault.kind == "step":
            self._clock.set(0)
        elif fault.kind == "delay":
            self._ways[fault.target].weather = self._plan.weather.get(
                "lan" if fault.target == "lan" else "wan", Weather()
            )
        else:
            self._ways[fault.target].mend()

    def _kill(self, name: str) -> None:
        pid = self._pids().get(name)
        if pid is None:
            self._verdict.faults["kills"] -= 1  # it is dead already
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _pids(self) -> dict[str, int]:
        found = running.find(self._layout)
        return {} if found is None else dict(found.pids)

    async def _calm(self, up: asyncio.subprocess.Process) -> None:
        """Wait until the building says that everything is stored; else end it as it is."""
        limit_s = self._storm.duration_s + CALM_S
        self._progress("calm: waiting until everything is stored …")
        try:
            async with asyncio.timeout(limit_s):
                code = await up.wait()
        except TimeoutError:
            self._note(f"not everything was stored {limit_s:g} s after the storm")
            return
        if code:
            self._note(f"up ended with {code}")

    def _note(self, text: str) -> None:
        self._verdict.notes.append(text)
        self._tell(text)

    def _ledger(self) -> str:
        """Return what the ledger says of itself."""
        done = subprocess.run(  # noqa: S603 -- our own command line
            [*_PLANTROOM, "ledger", "verify", "--state", str(self._layout.state)],
            capture_output=True,
            text=True,
            timeout=JUDGE_S,
            check=False,
        )
        if done.returncode == 0:
            return "closes"
        self._note(f"ledger: {done.stderr.strip()[-300:]}")
        return "does not close" if done.returncode == 1 else f"exit code {done.returncode}"

    def _judge(self, recordings: Sequence[Path]) -> dict[str, Any]:
        """Have the judge, a process of its own, compare."""
        self._progress("the judge compares …")
        pairs = [
            f"{chaos_recording.device_name(number)}={path}"
            for number, path in enumerate(recordings, start=1)
        ]
        done = subprocess.run(  # noqa: S603 -- our own module
            [sys.executable, "-m", chaos_judge.__name__, str(self._layout.state), *pairs],
            capture_output=True,
            text=True,
            timeout=JUDGE_S,
            check=False,
        )
        try:
            judged: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            self._note(f"the judge fell over: {done.stderr.strip()[-300:]}")
            return {}
        for word, what in judged.get("named", {}).items():
            self._note(f"{word}: {', '.join(what[:3])}")
        return judged


async def _end(up: asyncio.subprocess.Process) -> None:
    """Stop the building, if it runs."""
    if up.returncode is not None:
        return
    up.terminate()
    try:
        await asyncio.wait_for(up.wait(), STOP_S)
    except TimeoutError:
        up.kill()
        await up.wait()


def _free_ports() -> Ports:
    """Find seven free ports in a row.

    Raises:
        ConfigError: when there are none.
    """
    chance = random.SystemRandom()
    for attempt in range(100):
        ports = Ports.from_base(chance.randrange(_PORT_FIRST, min(BASE_MAX, 32_000), 7))
        try:
            ports.check_free()
        except ConfigError:
            if attempt == 99:
                raise
        else:
            return ports
    raise AssertionError  # pragma: no cover -- the last attempt has raised
