"""A service's connection against the real broker over mutual TLS: what it says arrives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from plantroom.broker.memory import MemorySink
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.certs import admission
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.cloud import identities
from plantroom.cloud.service_link import ServiceLink
from plantroom.wire import tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import UnreachableError
from plantroom.wire.link import Message

TRUST_DOMAIN = "smart-building.cloud"
WAIT_S = 60.0


@contextlib.asynccontextmanager
async def serving(
    folder: Path, filters: Sequence[str] = ("v1/+/ota/head", "v1/+/ota/+/get")
) -> AsyncIterator[tuple[Broker, ServiceLink]]:
    authority = Authority.open(folder / "authority", TRUST_DOMAIN, clock=SystemClock())
    front, source = (
        EmbeddedSource(authority, identities.service_id(TRUST_DOMAIN, name))
        for name in (identities.FRONT, "ota")
    )
    broker = Broker(
        limits=BrokerLimits(),
        store=MemorySink(),
        admit=admission.admit(front),
        decisions=None,
        clock=SystemClock(),
    )
    context = tls.RotatingServerContext(front.current())
    async with broker:
        port = await broker.listen("127.0.0.1", 0, context.context)
        yield (
            broker,
            ServiceLink(
                "ota",
                source,
                filters=filters,
                address=lambda: ("127.0.0.1", port),
                server_id=identities.service_id(TRUST_DOMAIN, identities.FRONT),
                waiting_max=16,
            ),
        )


def test_it_takes_what_it_subscribed_to_and_says_what_it_is_told_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (broker, link):
            heard: asyncio.Queue[Message] = asyncio.Queue()
            broker.watch("said/#", lambda message, _: heard.put_nowait(message))

            async def work() -> None:
                while True:
                    taken = await link.take(8)
                    said = [Message(topic=f"said/{one.topic}", payload=b"") for one in taken]
                    await link.publish(said)

            running = asyncio.create_task(link.run(work))
            try:
                async with asyncio.timeout(WAIT_S):
                    while not link.connected:  # noqa: ASYNC110 -- it has no event
                        await asyncio.sleep(0.01)
                    for topic in ("v1/b/ota/head", "v1/b/ota/gateway/get"):
                        message = Message(topic=topic, payload=b"1")
                        assert await broker.publish(message, publisher="test") == 0
                        assert (await heard.get()).topic == f"said/{topic}"
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

    asyncio.run(scenario())


def test_a_stop_in_the_moment_in_which_the_connection_breaks_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11's TaskGroup forgets that it was cancelled when a task of its own fails."""

    async def scenario() -> None:
        async with serving(tmp_path) as (_, link):
            begun, breaks = asyncio.Event(), asyncio.Event()

            async def fill(_self: ServiceLink, _link: object) -> None:
                begun.set()
                await breaks.wait()
                raise UnreachableError("the front has stopped")

            monkeypatch.setattr(ServiceLink, "_fill", fill)
            task = asyncio.create_task(link.run())
            async with asyncio.timeout(WAIT_S):
                await begun.wait()
                breaks.set()
                await asyncio.sleep(0)  # the connection has broken, and nobody has heard of it
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            assert task.cancelled()

    asyncio.run(scenario())
