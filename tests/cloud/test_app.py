"""The whole cloud in this process, with a gateway played by the test over real mutual TLS."""

import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.registry import Registry
from plantroom.cloud import app
from plantroom.cloud.settings import CloudSettings
from plantroom.wire import cbor, envelope, tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Batch, Book, Hello, Presence, Receipt, Refill, Welcome
from plantroom.wire.errors import ConfigError, RefusedError
from plantroom.wire.link import Link, Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.deliveries import DEVICE, SITE, T0_US, delivery, note, reading
from tests.fakes.ports import free_port
from tests.fakes.waiting import eventually

TRUST_DOMAIN = "smart-building.cloud"
FRONT = SpiffeId(TRUST_DOMAIN, "agent/front")
UPLINK = SpiffeId(TRUST_DOMAIN, f"gateway/{SITE}")
WAIT_S = 60.0


@dataclass
class Cloud:
    folder: Path
    mqtt: int
    http: int

    @classmethod
    def new(cls, folder: Path) -> "Cloud":
        return cls(folder, free_port(), free_port())

    @property
    def settings(self) -> CloudSettings:
        made = CloudSettings()
        return replace(
            made,
            agent=replace(made.agent, state=str(self.folder)),
            front=replace(made.front, host="127.0.0.1", port=self.mqtt),
            identity=replace(made.identity, enrol_host="127.0.0.1", enrol_port=0),
            http=replace(made.http, port=self.http),
            views=replace(made.views, period_s=0.1),
        )

    def identity_of(self, spiffe_id: SpiffeId) -> EmbeddedSource:
        authority = Authority.open(
            self.folder / "authority", spiffe_id.trust_domain, clock=SystemClock()
        )
        return EmbeddedSource(authority, spiffe_id)

    def admit(self, spiffe_id: SpiffeId) -> None:
        registry = Registry.open(self.folder / "registry.db")
        registry.create(spiffe_id)
        registry.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        task = asyncio.create_task(app.main(self.settings))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.http}") as client:
            try:
                await self._ready(task, client)
                yield client
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _ready(self, task: "asyncio.Task[None]", client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                if task.done():
                    await task
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def gateway(self) -> AsyncIterator[Link]:
        """Connect as the site's gateway, as soon as policy has followed the registry."""
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(WAIT_S):
                while True:
                    try:
                        link = await stack.enter_async_context(self.connection())
                    except RefusedError:
                        await asyncio.sleep(0.05)
                    else:
                        break
            yield link

    def connection(self) -> MqttLink:
        context = tls.client_context(self.identity_of(UPLINK).current(), server_ids=[FRONT])
        return MqttLink("127.0.0.1", self.mqtt, SITE, context)


async def send(link: Link, lane: str, payload: bytes) -> int:
    return await link.publish(Message(topic=f"v1/{SITE}/uplink/gateway/{lane}", payload=payload))


async def answer(link: Link) -> object:
    async with asyncio.timeout(WAIT_S):
        message = await anext(link.messages())
    return envelope.decode(message.payload, Receipt, Welcome, Refill)


def batch(*seqs: int, number: int = 1) -> Batch:
    return delivery([reading(seq) for seq in seqs], number=number).batch


def test_readings_of_a_gateway_are_stored_shown_and_receipted(tmp_path: Path) -> None:
    cloud = Cloud.new(tmp_path / "state")

    async def main() -> None:
        async with cloud.running() as http:
            cloud.admit(UPLINK)
            async with cloud.gateway() as link:
                await link.subscribe(f"v1/{SITE}/receipt/gateway")
                birth = Presence(online=True, epoch=1, at_us=T0_US, info={"kind": "hvac"})
                topic = f"v1/{SITE}/presence/hvac-001"
                await link.publish(
                    Message(topic=topic, payload=envelope.encode(birth), retain=True)
                )
                assert await send(link, "live", envelope.encode(batch(0, 1, 2))) == 0
                receipt = await answer(link)
                assert isinstance(receipt, Receipt)
                assert [(s.first, s.last) for s in receipt.stored] == [(0, 2)]
            (device,) = (await http.get("/api/latest")).json()["devices"]
            assert device["online"] is True
            assert device["points"]["temperature"]["value"] == 20.2
            history = (await http.get("/api/history?device=hvac-001&point=temperature")).json()
            assert history["values"] == [20.0, 20.1, 20.2]
            (book,) = (await http.get("/api/status")).json()["books"]
            assert (book["count"], book["holes"], book["device"]) == (3, [], "hvac-001")
            assert "plantroom_ingest_stored_total 3" in (await http.get("/metrics")).text

    asyncio.run(main())


def test_restart_continues_and_shows_what_was_stored(tmp_path: Path) -> None:
    cloud = Cloud.new(tmp_path / "state")

    async def main() -> None:
        async with cloud.running():
            cloud.admit(UPLINK)
            async with cloud.gateway() as link:
                await link.subscribe(f"v1/{SITE}/receipt/gateway")
                await send(link, "live", envelope.encode(batch(0, 1)))
                await answer(link)
        async with cloud.running() as http:
            (device,) = (await http.get("/api/latest")).json()["devices"]
            assert device["points"]["temperature"]["value"] == 20.1
            async with cloud.gateway() as link:
                await link.subscribe(f"v1/{SITE}/receipt/gateway")
                await send(link, "live", envelope.encode(batch(0, 1)))
                again = await answer(link)
            assert isinstance(again, Receipt)
            (book,) = (await http.get("/api/status")).json()["books"]
            assert book["count"] == 2

    asyncio.run(main())


def test_hello_is_answered_with_books_and_holes_are_asked_for(tmp_path: Path) -> None:
    cloud = Cloud.new(tmp_path / "state")

    async def main() -> None:
        async with cloud.running():
            cloud.admit(UPLINK)
            async with cloud.gateway() as link:
                await link.subscribe(f"v1/{SITE}/receipt/gateway")
                await link.subscribe(f"v1/{SITE}/refill/gateway")
                evicted = delivery([reading(0), reading(5)], notes=[note("evicted", 0, 2, 3)])
                await send(link, "backfill", envelope.encode(evicted.batch))
                await answer(link)
                hello = Hello(
                    incarnation=7,
                    number=9,
                    gateway="gateway",
                    books=(Book(device=DEVICE, epoch=1, highest=6),),
                )
                await send(link, "hello", envelope.encode(hello))
                welcome, refill = await answer(link), await answer(link)
            assert isinstance(welcome, Welcome)
            assert welcome.number == 9
            assert welcome.books[0].ranges == ((0, 0), (5, 5))
            assert isinstance(refill, Refill)
            assert [(h.first, h.last) for h in refill.holes] == [(1, 1), (4, 4), (6, 6)]

    asyncio.run(main())


def test_unreadable_batch_is_answered_by_its_name_and_the_next_is_stored(tmp_path: Path) -> None:
    cloud = Cloud.new(tmp_path / "state")

    async def main() -> None:
        async with cloud.running():
            cloud.admit(UPLINK)
            async with cloud.gateway() as link:
                await link.subscribe(f"v1/{SITE}/receipt/gateway")
                good = envelope.encode(batch(0, number=4))
                table = {"v": 1, "k": "batch", "incarnation": 7, "number": 3, "lane": "live"}
                broken = cbor.dumps(table | {"body": b"rubbish"})
                await send(link, "live", b"no envelope at all")
                await send(link, "live", broken)
                await send(link, "live", good)
                found = {answer.number: answer for answer in await receipts(link, 2)}
            assert found[3].unreadable
            assert found[4].stored

    asyncio.run(main())


async def receipts(link: Link, count: int) -> list[Receipt]:
    found = []
    for _ in range(count):
        receipt = await answer(link)
        assert isinstance(receipt, Receipt)
        found.append(receipt)
    return found


def test_gateway_that_is_not_registered_is_refused(tmp_path: Path) -> None:
    cloud = Cloud.new(tmp_path / "state")

    async def main() -> None:
        async with cloud.running():
            with pytest.raises(RefusedError):
                await cloud.connection().__aenter__()

    asyncio.run(main())


def test_second_cloud_on_the_same_folder_is_one_clear_error(tmp_path: Path) -> None:
    cloud = Cloud.new(tmp_path / "state")

    async def main() -> None:
        async with cloud.running():
            with pytest.raises(ConfigError, match="another cloud runs"):
                await app.main(cloud.settings)

    asyncio.run(main())


@pytest.mark.parametrize("which", ["mqtt", "http"])
def test_port_that_is_taken_is_one_clear_error(tmp_path: Path, which: str) -> None:
    cloud = Cloud.new(tmp_path / "state")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(cloud, which)))
        taken.listen()
        with pytest.raises(ConfigError, match=str(getattr(cloud, which))):
            asyncio.run(app.main(cloud.settings))


def test_reader_sees_the_store_of_a_folder(tmp_path: Path) -> None:
    cloud = Cloud.new(tmp_path / "state")

    async def main() -> None:
        async with cloud.running():
            cloud.admit(UPLINK)
            async with cloud.gateway() as link:
                await link.subscribe(f"v1/{SITE}/receipt/gateway")
                await send(link, "live", envelope.encode(batch(0)))
                await answer(link)
            reader = app.open_reader(cloud.folder)
            assert [row.point for row in reader.export()] == [
                "fan_status",
                "motion",
                "temperature",
            ]
            reader.close()

    asyncio.run(main())


def test_a_damaged_store_is_set_aside_and_filled_anew(tmp_path: Path) -> None:
    """With another name, so that gateways send again."""
    cloud = Cloud.new(tmp_path / "state")
    path = cloud.folder / "store.db"

    async def store(number: int) -> str:
        async with cloud.gateway() as link:
            await link.subscribe(f"v1/{SITE}/receipt/gateway")
            await send(link, "live", envelope.encode(batch(*range(300), number=number)))
            receipt = await answer(link)
        assert isinstance(receipt, Receipt)
        assert [(s.first, s.last) for s in receipt.stored] == [(0, 299)]
        return receipt.store_id

    async def main() -> None:
        async with cloud.running():
            cloud.admit(UPLINK)
            names = [await store(1)]
        spoil(path)
        async with cloud.running():
            names.append(await store(2))
            await eventually(lambda: is_raised(cloud), deadline_s=WAIT_S)
        assert len(list(cloud.folder.glob("store.db.damaged-*"))) == 1
        assert len(set(names)) == 2

    asyncio.run(main())


def is_raised(cloud: Cloud) -> bool:
    """Say whether the alarm about the store is retained, as it was raised."""
    with contextlib.closing(sqlite3.connect(cloud.folder / "front.db")) as front:
        found = front.execute(
            "SELECT packet FROM retained WHERE topic = 'v1/cloud/alarm/file-damaged/store'"
        ).fetchall()
    return [b'"state": "raised"' in packet for (packet,) in found] == [True]


def spoil(path: Path) -> None:
    """Overwrite all but the first page, and what has not been moved there yet."""
    for file in (path, path.with_name("store.db-wal")):
        if file.exists():
            with file.open("r+b") as opened:
                opened.seek(4096)
                opened.write(b"\xa5" * max(0, file.stat().st_size - 4096))
