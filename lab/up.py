"""The life of a building on this machine: set up, start in order, say so, watch, stop in order."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from plantroom.lab import ask, clocks, flags, fleet, lock, running, setup, workload
from plantroom.lab.building import Device
from plantroom.lab.child import GoneError, Program
from plantroom.lab.clocks import AheadError
from plantroom.lab.flags import Flags, Given
from plantroom.lab.layout import Layout
from plantroom.lab.left_out import LeftOut
from plantroom.lab.plan import devices_of
from plantroom.lab.ports import Ports
from plantroom.lab.replayed import Replayed
from plantroom.lab.supervisor import Interrupted, Supervisor, interruptible
from plantroom.lab.workload import Sockets
from plantroom.lab.workload_people import PeopleKeeper
from plantroom.wire.errors import StorageError, UnreachableError

READY_S = 120.0
READY_S_PER_DEVICE = 2.0
IDENTITIES_S = 180.0  # entries may be made, and agents started, while `up` waits
DISPENSABLE_S = 15.0  # an agent hears of an entry within seconds
POLL_S = 0.25
LEFT_OUT_S = 1.0
CLOCK_S = 10.0
PORTS_FREED_S = 5.0
DEVICES_NAMED_MAX = 3
INTERRUPTED = 130


class Voice(Protocol):
    """How `up` speaks to whoever started it."""

    def tell(self, text: str) -> None:
        """Say what happened, in one line."""
        ...

    def progress(self, text: str) -> None:
        """Say what is being waited for."""
        ...

    def ready(self, addresses: dict[str, Any]) -> None:
        """Say that everything is ready, and where."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """When to end by itself: after some seconds, or once every replayed row is stored."""

    duration_s: float | None = None
    stored: bool = False


def up(layout: Layout, given: Given, goal: Goal, voice: Voice) -> int:
    """Run a building until its goal is reached or it is told to stop; return the exit code.

    Raises:
        ConfigError: when a flag, a port or the state folder is wrong.
        UnreachableError: when a part does not become ready, or the goal is not reached in time.
        CheckFailedError: when the replay is over and the books do not close.
    """
    with lock.held(layout):
        wanted = given.over(flags.load(layout.building))
        devices = devices_of(wanted)
        _check_ports(layout, Ports.from_base(wanted.port_base))
        said = _Said(voice)
        while True:
            clocks.clear(layout)
            admitted = setup.prepare(layout, wanted, devices)
            flags.save(layout.building, wanted)
            plan = _Plan(flags=wanted, devices=devices, admitted=admitted)
            life = _Life(layout, plan, goal, said)
            try:
                asyncio.run(life.run())
            except Interrupted as interrupted:
                missed = goal.stored or not life.is_ready
                return INTERRUPTED if missed and interrupted.number == signal.SIGINT else 0
            except (GoneError, AheadError) as left:  # enough to begin anew, all of them together
                voice.tell(f"{left}: everything was stopped, is set up again, and starts anew")
            else:
                return 0
            finally:
                layout.running.unlink(missing_ok=True)


class _Said:
    """A voice that says once that everything is ready, however often it becomes so."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._is_said = False

    def tell(self, text: str) -> None:
        self._voice.tell(text)

    def progress(self, text: str) -> None:
        self._voice.progress(text)

    def ready(self, addresses: dict[str, Any]) -> None:
        if not self._is_said:
            self._voice.ready(addresses)
        self._is_said = True


def _check_ports(layout: Layout, ports: Ports) -> None:
    """Check the ports; children of an `up` that was killed get a moment to be gone."""
    ports.check_free(patience_s=PORTS_FREED_S if layout.running.exists() else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Who takes part; a device that is revoked is started, but nobody waits for it."""

    flags: Flags
    devices: tuple[Device, ...]
    admitted: frozenset[str]


class _Life:
    """One run of a building."""

    def __init__(self, layout: Layout, plan: _Plan, goal: Goal, voice: Voice) -> None:
        self.is_ready = False
        self._layout = layout
        self._plan = plan
        self._ports = Ports.from_base(plan.flags.port_base)
        self._goal = goal
        self._voice = voice
        self._left_out = LeftOut(layout, plan.devices, tell=voice.tell)
        self._published = True
        self._waiting_for = "cloud"
        self._sockets = workload.sockets_of(plan.flags)
        self._supervisor = Supervisor(tell=voice.tell, changed=self._publish)

    async def run(self) -> None:
        async with interruptible(), self._supervisor.running(), self._people():
            await self._start()
            self.is_ready = True
            self._publish()
            self._voice.ready(running.addresses(self._layout, self._running()))
            async with asyncio.TaskGroup() as tasks:
                watching = (
                    tasks.create_task(self._tell_left_out(), name="lab.left-out"),
                    tasks.create_task(self._watch_clock(), name="lab.clock"),
                )
                try:
                    await self._reach_goal()
                finally:
                    for task in watching:
                        task.cancel()
                    self._left_out.look()

    @contextlib.asynccontextmanager
    async def _people(self) -> AsyncIterator[None]:
        """Wait for every identity, and keep people's files fresh, where agents give them."""
        if self._sockets is None:
            yield
            return
        await self._identities(self._sockets)
        keeper = PeopleKeeper(self._layout, self._sockets, tell=self._voice.tell)
        with contextlib.closing(keeper):
            await asyncio.to_thread(keeper.step)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(keeper.run(), name="lab.people")
                try:
                    yield
                finally:
                    keeping.cancel()

    async def _identities(self, sockets: Sockets) -> None:
        """Wait until the agents give what is wanted; a little for what it can start without.

        Raises:
            UnreachableError: naming what is missing, and the socket that does not give it.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while lacking := await asyncio.to_thread(workload.missing, sockets, self._plan.devices):
            waited_s = loop.time() - began_s
            text = "; ".join(map(str, lacking))
            if waited_s > DISPENSABLE_S and workload.can_start_without(lacking):
                self._voice.tell(f"{text}; it starts without")
                return
            if waited_s > IDENTITIES_S:
                raise UnreachableError(
                    f"after {IDENTITIES_S:g} s identities are missing: {text}",
                    remedy="start the agent, or create the entries (docs/how-to/spire.md)",
                )
            self._voice.progress(f"waiting for identities: {text} …")
            await asyncio.sleep(POLL_S * 4)

    async def _watch_clock(self) -> None:
        while True:
            clocks.check(self._layout)
            await asyncio.sleep(CLOCK_S)

    async def _tell_left_out(self) -> None:
        while True:
            self._left_out.look()
            await asyncio.sleep(LEFT_OUT_S)

    async def _start(self) -> None:
        patience_s = READY_S + READY_S_PER_DEVICE * len(self._plan.devices)
        try:
            async with asyncio.timeout(patience_s):
                self._supervisor.start([self._program("cloud")])
                await self._healthy("cloud", self._ports.cloud_http)
                self._supervisor.start([self._program("gateway")])
                await self._healthy("gateway", self._ports.gateway_http)
                self._supervisor.start([self._device(one.name) for one in self._plan.devices])
                await self._devices_online()
        except TimeoutError:
            raise UnreachableError(
                f"not ready within {patience_s:g} s, missing: {self._waiting_for}",
                where=str(self._layout.state),
                remedy="read its log in the folder logs there",
            ) from None

    async def _healthy(self, name: str, port: int) -> None:
        self._waiting_for = name
        self._voice.progress(f"waiting for {name} …")
        await _until(lambda: ask.is_healthy(port))

    async def _devices_online(self) -> None:
        wanted = self._plan.admitted

        def all_online() -> bool:
            online = fleet.online(self._ports.gateway_http) or {}
            missing = sorted(name for name in wanted if not online.get(name))
            self._waiting_for = ", ".join(missing[:DEVICES_NAMED_MAX])
            self._voice.progress(f"waiting for {len(missing)} of {len(wanted)} devices …")
            return not missing

        await _until(all_online)

    async def _reach_goal(self) -> None:
        duration_s = self._goal.duration_s
        if not self._goal.stored:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), duration_s)
            return
        replayed = Replayed(self._layout, self._ports.gateway_http, self._plan.devices)
        try:
            async with asyncio.timeout(duration_s):
                await _until(lambda: replayed.is_stored(self._voice.progress))
            for text in replayed.left_out():
                self._voice.tell(text)
        except TimeoutError:
            raise UnreachableError(
                f"after {duration_s:g} s not every replayed row is stored: {replayed.progress}",
                remedy="start again without --duration; it goes on where it stopped",
            ) from None

    def _program(self, kind: str) -> Program:
        return Program(
            name=kind, kind=kind, config=self._layout.config(kind), log=self._layout.log(kind)
        )

    def _device(self, name: str) -> Program:
        config = self._layout.device_config(name)
        return Program(name=name, kind="device", config=config, log=self._layout.log(name))

    def _publish(self) -> None:
        """Say what runs; a disk that is full stops no process and is named once."""
        try:
            running.save(self._layout, self._running())
        except StorageError as error:
            if self._published:
                self._voice.tell(f"{error}; until then `status` knows old process ids")
            self._published = False
        else:
            self._published = True

    def _running(self) -> running.Running:
        return running.Running(
            pid=os.getpid(),
            port_base=self._plan.flags.port_base,
            ready=self.is_ready,
            pids=self._supervisor.pids,
        )


async def _until(claim: Callable[[], bool]) -> None:
    """Ask other processes, off the loop, until the claim holds."""
    while not await asyncio.to_thread(claim):  # noqa: ASYNC110 -- its events are another process's
        await asyncio.sleep(POLL_S)
