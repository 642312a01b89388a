"""One simulated run: build, break, mend, wait until nothing moves, judge. The seed says it all."""

import asyncio
import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from plantroom.cloud.ingest import TWINS
from plantroom.gateway.lanes import Flight, Lanes
from plantroom.gateway.queue_schema import WAITING
from plantroom.wire.topics import GATEWAY
from tests.sim.cloud import Cloud
from tests.sim.disk import Disk
from tests.sim.faults import FAULT_OF, Faults
from tests.sim.gateway import Gateway
from tests.sim.house import House
from tests.sim.interventions import INTERVENTION_OF
from tests.sim.network import Front, Weather
from tests.sim.places import BrokenError
from tests.sim.plan import Plan
from tests.sim.process import CLONE, SITE, Process
from tests.sim.sensor import Sensor
from tests.sim.truth import Truth
from tests.sim.watch import Watch

if TYPE_CHECKING:
    from tests.sim.virtual_loop import VirtualLoop

SETTLE_S = 900.0
_LOOK_S = 5.0


@dataclass(slots=True)
class Trace:
    """What happened, for whoever reads about a failure; its digest tells runs apart."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.lines.append(f"{asyncio.get_running_loop().time():9.3f} {text}")

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]


class World:
    """Everything of one run."""

    def __init__(self, plan: Plan, chance: random.Random) -> None:
        self.plan, self.chance = plan, chance
        self.trace = Trace()
        self.faults = Faults(self)
        self.weather = Weather(late=plan.late)
        self.front = Front(self.weather, chance)
        self.names = [f"hvac-{number:03}" for number in range(1, plan.sensors + 1)]
        self.sensor_disks = {name: Disk("sensor", name) for name in self.names}
        self.gateway_disks = [Disk("gateway", name) for name in ("gateway", "clone")]
        self.cloud_disk = Disk("cloud", "cloud")
        fixed = {disk.name: disk for disk in (*self.gateway_disks, self.cloud_disk)}
        self._mounted = fixed | self.sensor_disks
        self.name_store()
        gateway, clone = (
            Gateway(disk, chance, plan, self.front, self.weather) for disk in self.gateway_disks
        )
        self.house = House(gateway, clone, self.weather)
        self.cloud = Cloud(self.cloud_disk, chance, self.front)
        self.sensors = [
            Sensor(name, self.sensor_disks[name], chance, plan, self.house) for name in self.names
        ]
        self.truth = Truth(
            self.sensor_disks,
            [gateway.disk],
            self.cloud_disk,
            garbled=bool(plan.garble),
            strict=plan.strict,
        )
        self.watches = {
            each.name: Watch(each, self.cloud_disk, self.truth, self._break)
            for each in (gateway, clone)
        }
        self.cloud_disk.committed = self._nothing_held_was_given_up
        self.given_up_seen = self.suffered = 0
        self.backups: dict[str, bytes] = {}
        self.stormy = True
        self._newest: dict[tuple[int, str, str], tuple[int, int]] = {}
        self._transmitted: set[tuple[int, int]] = set()
        self.broken: BrokenError | None = None

    @property
    def processes(self) -> list[Process]:
        """All of them, in the order in which data moves."""
        return [*self.sensors, *self.house.gateways, self.cloud]

    @property
    def disks(self) -> dict[str, Disk]:
        """Every disk by its name, also of what does not run, and of what comes later."""
        return self._mounted

    def clone_sensor(self, sensor: Sensor) -> None:
        """Let there be a second sensor with the identity, and all that was kept, of another."""
        name = sensor.name + CLONE
        if name in self.names or sensor.name.endswith(CLONE):
            return
        disk = self.sensor_disks[name] = self._mounted[name] = Disk("sensor", name)
        disk.restore(sensor.disk.image())
        clone = Sensor(name, disk, self.chance, self.plan, self.house)
        clone.clock.stepped_us = sensor.clock.stepped_us
        self.names.append(name)
        self.sensors.append(clone)
        self.truth.rolled_back |= {sensor.name, name}  # two orders of one device's readings
        clone.start()

    def clone_gateway(self, image: bytes) -> None:
        """Let there be a second gateway with the identity of the first."""
        self.house.bring_clone(image)
        gateway, clone = self.house.gateways
        self.truth.gateways.append(clone.disk)
        self.watches[clone.name].begin()
        clone.clock.stepped_us = gateway.clock.stepped_us

    def name_store(self) -> None:
        self.cloud_disk.rows(
            "UPDATE store SET store_id = ?", f"store-{self.chance.getrandbits(40)}"
        )

    def done(self) -> Counter[str]:
        """Count what this run consisted of."""
        disks, loop = self.disks.values(), cast("VirtualLoop", asyncio.get_running_loop())
        return Counter(
            {
                "steps": loop.steps,
                "commits": sum(disk.commits for disk in disks),
                "faults": self.suffered,
                "deaths": sum(process.deaths for process in self.processes),
                "of them at a commit": sum(disk.crashes for disk in disks),
                "readings": len(self.truth.taken()),
            }
        )

    # -- invariants that have to be seen as it happens

    def _break(self, error: BrokenError) -> None:
        self.broken = self.broken or error

    def _nothing_held_was_given_up(self) -> None:
        """What is booked as gone may be held nowhere in that moment."""
        found = self.cloud_disk.rows(
            "SELECT d.spiffe_id, b.epoch, g.first, g.last FROM given_up g"
            " JOIN book b ON b.id = g.book JOIN device d ON d.id = b.device WHERE g.rowid > ?",
            self.given_up_seen,
        )
        self.given_up_seen += len(found)
        if found:
            self.truth.see_given_up(
                {(device, epoch, seq) for device, epoch, low, high in found
                 for seq in range(low, high + 1)}
            )  # fmt: skip

    def sent(self, lanes: Lanes, flight: Flight) -> None:
        """Check the order of first transmissions: per device, lane and incarnation.

        Readings that were on the wire before do not count: resends, halves, what a half that was
        given up with its link carried.
        """
        gateway = next(
            each
            for each in self.house.gateways
            if each.bridge is not None and each.bridge._lanes is lanes
        )
        queue = gateway.queue
        if flight.attempts or queue is None:
            return
        clones = {known[:3] for known in self.truth.sent_by_twins}
        before = {known[:3] for known in self.truth.forgotten}  # comes again, to a new memory
        for row in flight.rows:
            fresh = gateway.disk.rows(
                f"SELECT 1 FROM reading WHERE id = ? AND state = {WAITING}", row.id
            )
            spoken = (queue.incarnation, row.id)
            device = row.device.rpartition("/")[2]
            if not fresh or spoken in self._transmitted or device in self.truth.rolled_back:
                continue
            if (row.device, row.epoch, row.seq) in clones | before:
                continue
            self._transmitted.add(spoken)
            key = (queue.incarnation, flight.lane, row.device)
            if self._newest.get(key, (-1, -1)) >= (row.epoch, row.seq):
                self.broken = self.broken or BrokenError(
                    f"misordered in lane {flight.lane}: {row.device} {row.epoch}/{row.seq}"
                )
            self._newest[key] = (row.epoch, row.seq)

    # -- a run

    async def run(self) -> None:
        """Live through the storm, then through the calm, then be judged."""
        for process in self.processes:
            process.start()
        self._supervise({})
        try:
            await self._storm()
            self._mend()
            await self._settle()
        finally:
            self._supervision.cancel()
        await self.end()
        self._check()
        self.truth.judge()
        self._clones_are_named()

    def _clones_are_named(self) -> None:
        ingest = self.cloud.ingest
        named = ingest is not None and (SITE, TWINS, GATEWAY) in ingest.standing
        if self.house.has_clone and not named:
            raise BrokenError("two gateways have one identity, and no alarm stands")

    async def end(self) -> None:
        """Let nothing run any more."""
        for process in self.processes:
            process.kill()
        for _ in range(100):
            left = [process for process in self.processes if not process.bury()]
            if not left:
                return
            await asyncio.sleep(1.0)
        raise BrokenError("a process that was cancelled goes on")

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken
        for process in self.processes:
            if process.defect:
                raise BrokenError(f"{process.name} fell over: {process.defect}")
        self.truth.check_now()

    def _supervise(self, due_s: dict[str, float]) -> None:
        """Start again what has died, after a while; look for it every now and then."""
        loop = asyncio.get_running_loop()
        for process in self.processes:
            if process.alive:
                due_s.pop(process.name, None)
                continue
            if process.name not in due_s:
                due_s[process.name] = loop.time() + self.chance.random() * 8 * self.stormy
                self.trace.add(f"{process.name} is down")
                try:
                    self._check()
                except BrokenError as error:
                    self._break(error)
            if due_s[process.name] <= loop.time():
                due_s.pop(process.name)
                process.start()
        self._supervision = loop.call_later(0.25, self._supervise, due_s)

    async def _storm(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self.plan.faulty_s:
            await asyncio.sleep(self.chance.expovariate(1 / self.plan.fault_every_s))
            if not self.plan.faults:
                continue
            fault = self.chance.choice(self.plan.faults)
            self.trace.add(fault)
            self.suffered += 1
            (FAULT_OF | INTERVENTION_OF)[fault](self.faults)
            self._check()

    def _mend(self) -> None:
        """End every fault; what was broken stays as it is, and the rest is up to the product."""
        self.trace.add("calm")
        self.stormy = False
        self.weather.lose = self.weather.double = self.weather.late = self.weather.slow = 0.0
        self.weather.open.clear()
        silent = sorted(self.weather.silent)
        self.weather.silent.clear()
        for cable in silent:
            self.faults.flow(cable)
        for gateway in self.house.gateways:
            gateway.moody = gateway.busy_until_s = 0.0
            gateway.save_space(saving=False)
        for process in self.processes:
            process.disk.full = False
            process.disk.crash_in = None
        for sensor in self.sensors:
            sensor.clock.stepped_us = 0
            sensor.calm = True

    async def _settle(self) -> None:
        """Wait until nothing moves; the judge says what has not arrived by then."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SETTLE_S
        quiet = 0
        while loop.time() < until_s and quiet < 2:
            await asyncio.sleep(_LOOK_S + quiet * self.plan.pace.hello_s)  # a hello may change it
            try:
                self.truth._rests()
                self._clones_are_named()
                quiet += 1
            except BrokenError:
                quiet = 0
        self.trace.add("at rest")
