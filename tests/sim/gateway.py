"""One gateway: the product's journal, broker tables, derive, queue, lanes, bridge and uplink."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from plantroom.broker import encode, segments
from plantroom.broker.journal import Journal
from plantroom.broker.runs import Origin, Run
from plantroom.broker.store import SqliteStore as BrokerStore
from plantroom.broker.tree import Match
from plantroom.gateway.asking import Asking
from plantroom.gateway.bridge import Bridge
from plantroom.gateway.crossing import Upward
from plantroom.gateway.derive import Deriver
from plantroom.gateway.holding import FULL, NO_RESERVE, QUOTA_EXCEEDED, Holding
from plantroom.gateway.ingress import Intake
from plantroom.gateway.spool import Queue
from plantroom.gateway.tables import Life
from plantroom.wire import envelope, topics
from plantroom.wire.database import Database
from plantroom.wire.envelope import Call, Presence
from plantroom.wire.errors import StorageError, UnreachableError
from plantroom.wire.link import Message
from tests.sim.disk import Disk
from tests.sim.network import Front, Weather
from tests.sim.plan import Plan
from tests.sim.process import DOMAIN, SITE, Process, spiffe_id
from tests.sim.sensor import Deaf, Door

_V5 = 5


class Gateway(Process):
    """One gateway: broker's journal, derive, queue and bridge."""

    def __init__(
        self, disk: Disk, chance: random.Random, plan: Plan, front: Front, weather: Weather
    ) -> None:
        super().__init__(disk.name, disk, chance)
        self._plan, self._front, self._weather = plan, front, weather
        self.limits = plan.limits
        self.doors: list[Door] = []
        self._journal: Journal | None = None
        self._held: int | None = None
        self.moody = 0.0  # the share of publishes that is refused for no reason
        self.busy_until_s = 0.0  # with something else than deriving
        self._holding: Holding | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self.queue: Queue | None = None
        self.bridge: Bridge | None = None

    @property
    def newest(self) -> bool:
        """Whether what finds no room is booked instead of being queued."""
        return self.limits.policy == "newest"

    def severed(self) -> None:
        for door in self.doors:
            door.connection.cut()
            door.news.set()
        self.doors.clear()
        self._journal = None
        self._front.sever(self.name)

    @property
    def takes(self) -> bool:
        """Whether publishes are taken now."""
        return self._journal is not None and self._held is None

    def admit(self, door: Door) -> Door:
        """Let a sensor connect."""
        if (
            not self.alive
            or self._journal is None
            or not self._weather.passes(door.connection.cable)
        ):
            raise UnreachableError("not there")
        self.doors.append(door)
        return door

    def received(self, door: Door | Deaf, number: int, packet: bytes) -> None:
        """Take a publish as the broker does: refused while held, else into the journal."""
        journal = self._journal
        if journal is None:
            return
        held = QUOTA_EXCEEDED if self.chance.random() < self.moody else self._held
        if held is not None:
            door.write(encode.acknowledgement(4, number, _V5, code=held))
            return
        origin = Origin(1, "sensor", door.connection.cable)
        run = Run(origin, packet, version=_V5, match=Match(), at_us=0, tapped=True)
        journal.run(run)
        journal.acknowledge(door, encode.acknowledgement(4, number, _V5), count=1)

    def heard_heads(self, device: str, heads: dict[int, int], current: int) -> None:
        """Book a presence message's heads."""
        if self.queue is not None and self._tasks is not None and self.alive:
            self._start(self._book_heads(device, heads, current))

    async def _book_heads(self, device: str, heads: dict[int, int], current: int) -> None:
        try:
            if self.queue is not None:
                await self.queue.note_heads(device, heads, current=current)
        except StorageError:
            return

    def _start(self, stage: Coroutine[Any, Any, None]) -> None:
        if self._tasks is not None:
            self._tasks.create_task(stage)

    async def _publish(self, message: Message) -> int:
        """Publish in the building: calls reach the sensor that they name, if it is connected."""
        topic = topics.parse(message.topic)
        if topic.pattern.startswith("call/"):
            for door in self.doors:
                if door.device == spiffe_id(topic.names[0]) and not door.connection.dead:
                    call = envelope.decode(message.payload, Call)
                    door.call(topic.names[1], call.data)
        return 0

    def save_space(self, *, saving: bool) -> None:
        """Be out of disk, or no longer: only what frees space may write."""
        if self._holding is not None and self.queue is not None and self.alive:
            self._holding.set(NO_RESERVE, holds=saving)
            self.queue.save_space(saving=saving)

    def hold(self, code: int | None) -> None:
        self._held = code

    async def main(self) -> None:
        database = Database.open(Path("/sim") / self.disk.name, {})
        bits = self.chance.getrandbits
        life = Life(incarnation=bits(53), clock=self.clock, random_bits=bits)
        queue = Queue(database, life, self.limits, disk_free=lambda: 1 << 40)
        self.queue = queue
        await _insist(queue.start)
        self._held = None
        holding = self._holding = _Busy(self)
        asking = Asking(site=SITE, trust_domain=DOMAIN, publish=self._publish, clock=self.clock)
        bridge = self._make_bridge(queue, life, asking)

        def derived(intakes: list[Intake]) -> None:
            asking.derived(intakes)
            bridge.wake()

        deriver = Deriver(
            database,
            queue,
            arrivals=segments.arrivals,
            trust_domain=DOMAIN,
            holding=holding,
            derived=derived,
        )
        sink = BrokerStore(database)
        journal = Journal(sink, self.clock, depth_bytes_max=1 << 20)
        journal.on_tapped.append(deriver.wake)
        self.bridge = bridge
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(journal.serve())
            tasks.create_task(deriver.run())
            tasks.create_task(bridge.run())
            tasks.create_task(asking.run())
            tasks.create_task(self._tidy(queue, sink, holding))
            self._journal = journal

    def _make_bridge(self, queue: Queue, life: Life, asking: Asking) -> Bridge:
        async def deliver(_: object) -> None:
            return None

        return Bridge(
            queue,
            Upward(site=SITE, trust_domain=DOMAIN, own_publisher=""),
            connect=lambda: self._front.connect("bridge", self.name),
            site=SITE,
            trust_domain=DOMAIN,
            pace=self._plan.pace,
            clock=self.clock,
            chance=self.chance.random,
            deliver=deliver,
            presence=lambda online: Presence(online=online, epoch=life.incarnation),
            sensors=asking,
        )

    async def _tidy(self, queue: Queue, sink: BrokerStore, holding: Holding) -> None:
        """Do what the product's measures do on their timer."""
        while True:
            await asyncio.sleep(1.0)
            try:
                holding.set(FULL, holds=await queue.tidy())
                await sink.prune(())
            except StorageError:
                continue


async def _insist(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it again until the disk lets us: the supervisor would start us again."""
    while True:
        try:
            await work()
        except StorageError:
            await asyncio.sleep(1.0)
        else:
            return


class _Busy(Holding):
    """The product's reasons to wait, and one more: the machine has something else to do."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway.hold)
        self._gateway = gateway

    async def ended(self, reason: str) -> None:
        await super().ended(reason)
        await asyncio.sleep(self._gateway.busy_until_s - asyncio.get_running_loop().time())
