"""Our gateway's whole path as the benchmark runs it, up to a stand-in for the cloud.

Broker, segments, decoding, books, lanes and batches are those of `gateway/app.py`. The stand-in
answers every batch with a receipt at once, in this same process, so that its time counts as ours.
It says how many readings have a receipt, and when that was, in lines of JSON on stdout.
"""

import argparse
import asyncio
import json
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import groupby
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
from plantroom.wire import envelope, service, tls, topics
from plantroom.wire.clock import SystemClock
from plantroom.wire.database import Database
from plantroom.wire.envelope import Batch, Hello, Presence, Receipt, Span, Welcome
from plantroom.wire.link import Message
from tests.bench.brokers.own import TELEMETRY, admit_by, identity_of, policy_of
from tests.bench.kit.identities import SITE
from tests.fakes.issuer import BUILDING

_DISK_FREE_BYTES = 1 << 40


class StandIn:
    """A link to a cloud that stores everything at once; implements `wire.link.Link`."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[Message] = asyncio.Queue(1000)
        self._receipted = 0
        self._commits = 0

    @asynccontextmanager
    async def connect(self) -> "AsyncIterator[StandIn]":
        """Be the connection."""
        yield self

    async def publish(self, message: Message) -> int:
        """Take a batch or a hello, and queue the answer."""
        if "/uplink/" in message.topic:
            self._commits += 1
            said = envelope.decode(message.payload, Batch, Hello)
            answer = self._welcome(said) if isinstance(said, Hello) else self._receipt(said)
            topic = topics.build("receipt/{gateway}", SITE, "gateway")
            await self._answers.put(Message(topic=topic, payload=envelope.encode(answer)))
        return 0

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """Everything comes anyway."""

    async def messages(self) -> AsyncIterator[Message]:
        """Give the answers."""
        while True:
            yield await self._answers.get()

    def _welcome(self, hello: Hello) -> Welcome:
        return Welcome(
            incarnation=hello.incarnation,
            number=hello.number,
            store_id="stand-in",
            commit=self._commits,
        )

    def _receipt(self, batch: Batch) -> Receipt:
        self._receipted += len(batch.readings)
        line = {"receipted": self._receipted, "at_ns": time.monotonic_ns()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        keys = sorted((one.device, one.epoch, one.seq) for one in batch.readings)
        spans = []
        for _, run in groupby(enumerate(keys), lambda item: (*item[1][:2], item[1][2] - item[0])):
            seqs = [key for _, key in run]
            device, epoch, first = seqs[0]
            spans.append(Span(device=device, epoch=epoch, first=first, last=seqs[-1][2]))
        return Receipt(
            incarnation=batch.incarnation,
            number=batch.number,
            store_id="stand-in",
            commit=self._commits,
            stored=tuple(spans),
            notes=tuple((note.author, note.life, note.number) for note in batch.notes),
        )


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
