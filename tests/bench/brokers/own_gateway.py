"""Our gateway's whole path as the benchmark runs it, up to a stand-in for the cloud.

Broker, segments, decoding, books, lanes and batches are those of `gateway/app.py`. The stand-in
answers every batch with a receipt at once. Lines of JSON on stdout say how many readings have
their receipt, booked in the queue, and when that was.
"""

import argparse
import asyncio
import json
import random
import secrets
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from plantroom.broker import segments
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.store import MIGRATIONS as BROKER_TABLES
from plantroom.broker.store import SqliteStore
from plantroom.gateway.bridge import Bridge
from plantroom.gateway.crossing import Upward
from plantroom.gateway.derive import Deriver
from plantroom.gateway.holding import Holding
from plantroom.gateway.pace import pace_of
from plantroom.gateway.queue_schema import MIGRATIONS as QUEUE_TABLES
from plantroom.gateway.room import limits_of
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.spool import Queue
from plantroom.gateway.tables import Life
from plantroom.wire import service, tls, topics
from plantroom.wire.clock import SystemClock
from plantroom.wire.database import Database
from plantroom.wire.envelope import Presence
from plantroom.wire.link import Message
from tests.bench.brokers import cloud_stand_in
from tests.bench.brokers.cloud_stand_in import ANSWER, FRAME
from tests.bench.brokers.own import TELEMETRY, admit_by, identity_of, policy_of
from tests.bench.kit.identities import SITE
from tests.fakes.issuer import BUILDING

_DISK_FREE_BYTES = 1 << 40


class StandIn:
    """A link to `cloud_stand_in`, in a process of its own; implements `wire.link.Link`."""

    def __init__(self) -> None:
        self._receipted = 0

    @asynccontextmanager
    async def connect(self) -> "AsyncIterator[StandIn]":
        """Start the stand-in, and be the connection to it."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", cloud_stand_in.__name__), stdin=PIPE, stdout=PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout
        try:
            yield self
        finally:
            process.kill()
            await process.wait()

    async def publish(self, message: Message) -> int:
        """Send a batch or a hello; nobody wants to hear of anything else."""
        if "/uplink/" in message.topic:
            self._to.write(FRAME.pack(len(message.payload)) + message.payload)
            await self._to.drain()
        return 0

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """Everything comes anyway."""

    async def messages(self) -> AsyncIterator[Message]:
        """Give the answers; say how many readings have a receipt, once it is taken."""
        topic = topics.build("receipt/{gateway}", SITE, "gateway")
        while True:
            count, size = ANSWER.unpack(await self._from.readexactly(ANSWER.size))
            yield Message(topic=topic, payload=await self._from.readexactly(size))
            self._receipted += count
            line = {"receipted": self._receipted, "at_ns": time.monotonic_ns()}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


def _stages(database: Database, queue: Queue, broker: Broker) -> tuple[Deriver, Bridge]:
    """Make what stands behind the broker, as `gateway/app.py` does."""
    clock = SystemClock()

    async def deliver(message: Message) -> int:
        return await broker.publish(message, publisher="")

    bridge = Bridge(
        queue,
        Upward(site=SITE, trust_domain=BUILDING, own_publisher=""),
        connect=StandIn().connect,
        site=SITE,
        trust_domain=BUILDING,
        pace=pace_of(GatewaySettings()),
        clock=clock,
        chance=random.random,
        deliver=deliver,
        presence=lambda online: Presence(online=online, epoch=queue.incarnation),
    )
    deriver = Deriver(
        database,
        queue,
        arrivals=segments.arrivals,
        trust_domain=BUILDING,
        holding=Holding(broker.tap_hold),
        derived=lambda _: bridge.wake(),
    )
    return deriver, bridge


async def _main(identities: Path, folder: Path, port: int) -> None:
    settings, clock = GatewaySettings(), SystemClock()
    database = Database.open(folder / "queue.db", BROKER_TABLES | QUEUE_TABLES)
    life = Life(incarnation=secrets.randbits(53), clock=clock, random_bits=secrets.randbits)
    queue = Queue(database, life, limits_of(settings), disk_free=lambda: _DISK_FREE_BYTES)
    await queue.start()
    identity = identity_of(identities)
    try:
        async with (
            Broker(
                limits=BrokerLimits(),
                store=SqliteStore(database),
                admit=partial(admit_by, identity),
                decisions=policy_of(identities),
                clock=clock,
                taps=(TELEMETRY,),
            ) as broker,
            asyncio.TaskGroup() as tasks,
        ):
            deriver, bridge = _stages(database, queue, broker)
            broker.on_tapped(deriver.wake)
            tasks.create_task(deriver.run(), name="gateway.derive")
            tasks.create_task(bridge.run(), name="gateway.bridge")
            await broker.listen("127.0.0.1", port, tls.server_context(identity))
    finally:
        database.close()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    service.run(partial(_main, given.identities, given.folder, given.port))


if __name__ == "__main__":
    main()
