"""What a bad day brings: every fault by its name, each with its own end."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING
from unittest import mock

from plantroom.broker import encode
from plantroom.broker.packets import Publish
from plantroom.broker.properties import Property
from plantroom.wire import senml
from plantroom.wire.reading import Point
from tests.sim.gateway import Gateway
from tests.sim.network import Connection, FrontLink
from tests.sim.places import Known
from tests.sim.process import SITE, UNKNOWN_US, Process, known_as, spiffe_id
from tests.sim.sensor import Deaf

if TYPE_CHECKING:
    from tests.sim.world import World


class Faults:
    """The faults that a world can suffer."""

    def __init__(self, world: "World") -> None:
        self._world = world

    # -- faults

    def later(self, low_s: float, high_s: float, work: Callable[[], None]) -> None:
        """Do something when this fault has lasted long enough."""

        def act() -> None:
            if self._world.stormy:
                work()

        asyncio.get_running_loop().call_later(self._world.chance.uniform(low_s, high_s), act)

    def one_of(self, kind: str) -> Process:
        """Choose a process."""
        if kind == "sensor":
            return self._world.chance.choice(self._world.sensors)
        return self.gateway() if kind == "gateway" else self._world.cloud

    def gateway(self) -> Gateway:
        """Choose a gateway: there may be a clone of it."""
        gateways = self._world.house.gateways
        return self._world.chance.choice(gateways) if len(gateways) > 1 else gateways[0]

    def kill(self, kind: str) -> None:
        """Kill at any moment."""
        self.one_of(kind).kill()

    def crash(self, kind: str) -> None:
        """Kill at one of the next commits: just before it, or just after."""
        disk = self.one_of(kind).disk
        disk.crash_in = self._world.chance.randrange(6)
        disk.crash_after = self._world.chance.random() < 0.5

    def fill(self, kind: str) -> None:
        """Let a disk be full for a while."""
        disk = self.one_of(kind).disk
        disk.full = True
        self.later(1, 10, lambda: setattr(disk, "full", False))

    def save_space(self) -> None:
        """Let the gateway's reserve be given up for a while: nothing is derived."""
        gateway = self.gateway()
        gateway.save_space(saving=True)
        self.later(1, 10, lambda: gateway.save_space(saving=False))

    def occupy(self) -> None:
        """Let the gateway fall behind: what it takes is derived only later."""
        loop = asyncio.get_running_loop()
        self.gateway().busy_until_s = loop.time() + self._world.chance.uniform(1, 15)

    def upset(self) -> None:
        """Let the building's broker refuse every second publish for a while."""
        gateway = self.gateway()
        gateway.moody = 0.5
        self.later(1, 10, lambda: setattr(gateway, "moody", 0.0))

    def cut(self, cable: str) -> None:
        """Break a cable for a while."""
        self._world.weather.open[cable] = False
        self._sever(cable)
        self.later(0.5, 25, lambda: self._world.weather.open.update({cable: True}))

    def _through(self, cable: str) -> list[Connection | FrontLink]:
        """Return the connections that go through a cable now."""
        found: list[Connection | FrontLink] = [
            sensor.connection
            for sensor in self._world.sensors
            if sensor.name == cable and sensor.connection is not None
        ]
        links = sorted(self._world.front.links, key=lambda link: link.number)
        return found + [link for link in links if link.where == cable]

    def _sever(self, cable: str) -> None:
        for connection in self._through(cable):
            connection.cut()

    def flow(self, cable: str) -> None:
        for connection in self._through(cable):
            connection.flow()

    def silence(self, cable: str) -> None:
        """Let a cable swallow everything: half open."""
        self._world.weather.silent.add(cable)

        def speak() -> None:
            self._world.weather.silent.discard(cable)
            if self._world.chance.random() < 0.5:
                self._sever(cable)
            self.flow(cable)

        self.later(1, 20, speak)

    def crash_front(self, *, forget: bool) -> None:
        """Let the cloud's broker fall over."""
        self._world.front.crash(forget=forget)

    def lan(self) -> str:
        """Choose a sensor's cable."""
        return self._world.chance.choice(self._world.names)

    def bad_weather(self) -> None:
        """Let the front's neighbours lose, double, delay."""
        weather, draw = self._world.weather, self._world.chance.choice
        weather.lose, weather.double = draw((0.0, 0.1, 0.4)), draw((0.0, 0.2, 0.5))
        weather.late, weather.slow = draw((0.0, 0.2, 0.5)), draw((0.0, 0.1, 0.3))

    def step_clock(self) -> None:
        """Set somebody's clock, forward or back, also to 1970."""
        process = self._world.chance.choice(self._world.processes)
        process.clock.stepped_us = self._world.chance.choice(
            (0, 3_600_000_000, -3_600_000_000, 90 * 86_400_000_000, UNKNOWN_US)
        )

    def reboot(self) -> None:
        """Let a sensor lose power, with a clock that is set again only later."""
        sensor = self._world.chance.choice(self._world.sensors)
        self._world.truth.timeless |= {
            (spiffe_id(sensor.name), epoch)
            for (epoch,) in sensor.disk.rows("SELECT epoch FROM timeless")
        }
        sensor.reboot()
        self.later(0.5, 15, lambda: setattr(sensor.clock, "stepped_us", 0))

    def twin(self) -> None:
        """Let a clone of a sensor publish other readings under keys that are, or will be, taken."""
        name = known_as(self._world.chance.choice(self._world.names))
        device = spiffe_id(name)
        rows = self._world.sensor_disks[name].rows("SELECT epoch, seq, pack FROM taken")
        gateway = self.gateway()
        if not rows or not gateway.takes:
            return
        epoch, seq, pack = self._world.chance.choice(rows)
        mine = senml.decode(pack).readings[0]
        if self._world.chance.random() < 0.3:  # it is ahead of the sensor that it is a copy of
            seq = max(other[1] for other in rows if other[0] == epoch) + 1
            mine = dataclasses.replace(mine, seq=seq)
        points = (
            Point(name="temperature", unit="Cel", value=-float(self._world.chance.randrange(500))),
        )
        other = dataclasses.replace(mine, points=points)
        publish = Publish(
            topic=f"v1/{SITE}/telemetry/{name}",
            payload=senml.encode((other,)),
            qos=1,
            packet_id=1,
            properties={Property.USER: (("range", f"{epoch}/{seq}/{seq}"),)},
        )
        known = (device, epoch, seq, other.hash())
        self._world.truth.sent_by_twins.add(known)
        witness = _Witness(self._world, known)
        gateway.received(witness, 1, encode.publish(publish, 5))

    def restore(self, kind: str) -> None:
        """Make a backup of a disk, or put the last one in its place."""
        process = self.one_of(kind)
        disk = process.disk
        image = self._world.backups.pop(disk.name, None)
        if image is None:
            self._world.backups[disk.name] = disk.image()
            return
        process.kill()
        self._world.truth.roll_back(disk, image)
        if kind == "gateway":
            self._world.watches[disk.name].begin()
        if kind == "cloud":
            self._world.given_up_seen = 0
            if not self._world.plan.strict or self._world.chance.random() < 0.5:
                self._world.name_store()
            else:  # the cloud finds out, whatever its count of commits says by then
                namesake = disk.rows("SELECT store_id FROM store")[0][0]
                for watch in self._world.watches.values():
                    watch.namesakes.add(namesake)

    def age(self) -> None:
        """Let what is stored be old."""
        self._world.cloud.age()

    def clone_gateway(self) -> None:
        """Start a second gateway from a copy of the first one's disk; later, mix who is heard."""
        house, chance = self._world.house, self._world.chance
        if not house.has_clone:
            image = self._world.backups.get("gateway") if chance.random() < 0.5 else None
            self._world.clone_gateway(image or house.gateways[0].disk.image())
        house.doubled = chance.random() < 0.3
        for name in self._world.names:
            if chance.random() < 0.7:
                self._sever(name)


class _Witness(Deaf):
    """The twin's end of its connection: once acknowledged, its reading counts."""

    def __init__(self, world: "World", known: Known) -> None:
        super().__init__(mock.Mock(cable="twin"))
        self._world, self._known = world, known

    def write(self, data: bytes) -> None:
        if len(data) < 5:
            self._world.truth.twins.add(self._known)


FAULT_OF: dict[str, Callable[[Faults], None]] = {
    "kill-sensor": lambda faults: faults.kill("sensor"),
    "kill-gateway": lambda faults: faults.kill("gateway"),
    "kill-cloud": lambda faults: faults.kill("cloud"),
    "crash-sensor": lambda faults: faults.crash("sensor"),
    "crash-gateway": lambda faults: faults.crash("gateway"),
    "crash-cloud": lambda faults: faults.crash("cloud"),
    "cut-lan": lambda faults: faults.cut(faults.lan()),
    "cut-wan": lambda faults: faults.cut("bridge"),
    "cut-ingest": lambda faults: faults.cut("ingest"),
    "silent-lan": lambda faults: faults.silence(faults.lan()),
    "silent-wan": lambda faults: faults.silence("bridge"),
    "front-crash": lambda faults: faults.crash_front(forget=False),
    "front-lost": lambda faults: faults.crash_front(forget=True),
    "weather": lambda faults: faults.bad_weather(),
    "disk-full-sensor": lambda faults: faults.fill("sensor"),
    "disk-full-gateway": lambda faults: faults.fill("gateway"),
    "no-reserve": lambda faults: faults.save_space(),
    "slow-gateway": lambda faults: faults.occupy(),
    "moody-broker": lambda faults: faults.upset(),
    "disk-full-cloud": lambda faults: faults.fill("cloud"),
    "clock-step": lambda faults: faults.step_clock(),
    "twin": lambda faults: faults.twin(),
    "reboot-sensor": lambda faults: faults.reboot(),
    "restore-cloud": lambda faults: faults.restore("cloud"),
    "restore-gateway": lambda faults: faults.restore("gateway"),
    "restore-sensor": lambda faults: faults.restore("sensor"),
    "clone-gateway": lambda faults: faults.clone_gateway(),
    "retention": lambda faults: faults.age(),
}
