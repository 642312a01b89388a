"""Ingest's connection against the real broker over mutual TLS: it comes back by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantroom.broker.memory import MemorySink
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.certs import admission
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.cloud import identities
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.ingest_link import IngestLink
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.wire import envelope, tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Receipt
from plantroom.wire.link import Message
from tests.fakes.deliveries import delivery, reading

TRUST_DOMAIN = "smart-building.cloud"
WAIT_S = 60.0


@dataclass
class Bench:
    broker: Broker
    link: IngestLink
    ingest: Ingest
    source: EmbeddedSource
    store: SqliteStore
    receipts: list[Receipt]

    async def send(self, *seqs: int, number: int = 1) -> None:
        batch = delivery([reading(seq) for seq in seqs], number=number).batch
        topic = "v1/building-1/uplink/gateway/live"
        message = Message(topic=topic, payload=envelope.encode(batch))
        assert await self.broker.publish(message, publisher="test") == 0

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not claim():  # noqa: ASYNC110 -- what is waited for has no event
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    authority = Authority.open(folder / "authority", TRUST_DOMAIN, clock=SystemClock())
    front, source = (
        EmbeddedSource(authority, identities.service_id(TRUST_DOMAIN, name))
        for name in (identities.FRONT, identities.INGESTION)
    )
    broker = Broker(
        limits=BrokerLimits(),
        store=MemorySink(),
        admit=admission.admit(front),
        decisions=None,
        clock=SystemClock(),
    )
    store = SqliteStore(folder / "store.db")
    ingest = Ingest(store, belongs=belongs_by_name, clock=SystemClock(), shown=lambda *_: None)
    context = tls.RotatingServerContext(front.current())
    async with broker:
        port = await broker.listen("127.0.0.1", 0, context.context)
        link = IngestLink(
            ingest,
            source,
            address=lambda: ("127.0.0.1", port),
            server_id=identities.service_id(TRUST_DOMAIN, identities.FRONT),
            group_max=8,
            waiting_max=16,
        )
        receipts: list[Receipt] = []
        broker.watch(
            "v1/+/receipt/+",
            lambda message, _: receipts.append(envelope.decode(message.payload, Receipt)),
        )
        running = asyncio.create_task(link.run())
        made = Bench(broker, link, ingest, source, store, receipts)
        await made.until(lambda: link.connected)
        try:
            yield made
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            store.close()


def test_batches_are_answered_after_they_are_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as made:
            for number in range(40):
                await made.send(number, number=number)
            await made.until(lambda: len(made.receipts) == 40)
            assert [receipt.number for receipt in made.receipts] == list(range(40))
            assert made.ingest.counts["commits"] <= 40
            (book,) = await made.store.books()
            assert list(book.stored) == [(0, 39)]

    asyncio.run(main())


def test_renewed_identity_is_used_and_nothing_is_lost_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as made:
            await made.send(0, number=0)
            await made.until(lambda: len(made.receipts) == 1)
            made.source.renew()
            for number in range(1, 20):
                await made.send(number, number=number)
            await made.until(lambda: len({each.number for each in made.receipts}) == 20)
            assert made.link.trouble == ""
            (book,) = await made.store.books()
            assert list(book.stored) == [(0, 19)]

    asyncio.run(main())


def test_connection_that_is_cut_comes_back_with_its_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as made:
            spiffe_id = str(made.source.current().svid.spiffe_id)
            assert made.broker.disconnect(spiffe_id) == 1
            for number in range(10):
                await made.send(number, number=number)
            await made.until(lambda: len({each.number for each in made.receipts}) == 10)
            assert made.link.connected

    asyncio.run(main())


def test_what_is_live_goes_alone_and_a_little_of_a_backlog_with_every_other_group() -> None:
    def message(number: int, lane: str) -> Message:
        return Message(topic=f"v1/building-1/uplink/gateway/{lane}", payload=b"%d" % number)

    async def main() -> None:
        nobody: Any = None
        link = IngestLink(
            nobody,
            nobody,
            address=lambda: ("127.0.0.1", 0),
            server_id=nobody,
            group_max=64,
            waiting_max=64,
        )

        async def group() -> list[int]:
            return [int(one.payload) for one in await link._group()]

        lanes = ["backfill"] * 9 + ["live", "hello", "live"]
        for number, lane in enumerate(lanes):
            link._link._waiting.put_nowait(message(number, lane))
        assert await group() == [9, 11]
        assert await group() == [0, 1]
        for number in (12, 13, 14):
            link._link._waiting.put_nowait(message(number, "live"))
            assert await group() == ([number, 2, 3] if number == 13 else [number])
        assert await group() == [4, 5]
        assert await group() == [6, 7]
        link._link._waiting.put_nowait(message(15, "live"))
        assert await group() == [15]
        assert await group() == [8, 10]

    asyncio.run(main())
