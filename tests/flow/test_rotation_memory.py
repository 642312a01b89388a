"""What an identity leaves behind when it is rotated: nothing, without the garbage collector.

A TLS connection's memory belongs to OpenSSL, so the collector does not count it; a few connections
in reference cycles are megabytes that stay until a full collection, which an idle process hardly
ever makes. So nothing that holds a connection may be in a cycle.
"""

import asyncio
import gc
import os
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from plantroom.broker.memory import MemorySink
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.certs import admission
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.device.session import Session, Target
from plantroom.wire import tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.waiting import eventually

DOMAIN = "building-1.smart.local"
GATEWAY = SpiffeId(DOMAIN, "agent/gateway")
SENSOR = SpiffeId(DOMAIN, "agent/hvac-001")
WILL = Message(topic="presence", payload=b"off")
HELD = (ssl.SSLContext, ssl.SSLObject, ssl.SSLSocket, Session, MqttLink)
SOAK_ROTATIONS = int(os.environ.get("PLANTROOM_SOAK_ROTATIONS", "500"))


class Building:
    """A broker, and a sensor that comes back with every new SVID, by either client."""

    def __init__(self, broker: Broker, authority: Authority, gateway: EmbeddedSource) -> None:
        self._broker = broker
        self._gateway = gateway
        self._sensor = EmbeddedSource(authority, SENSOR)
        self._context = tls.RotatingServerContext(gateway.current())
        self._port = 0

    async def listen(self) -> None:
        self._port = await self._broker.listen("127.0.0.1", 0, self._context.context)

    async def rotate(self) -> None:
        """Rotate both ends, and connect as the gateway's bridge and as a sensor do."""
        self._context.rotate(self._gateway.renew())
        identity = self._sensor.renew()
        context = tls.client_context(identity, server_ids=(GATEWAY,))
        async with MqttLink("127.0.0.1", self._port, SENSOR.name, context) as link:
            await link.publish(WILL)
        await asyncio.to_thread(self._session, tls.client_context(identity, server_ids=(GATEWAY,)))
        while self._broker.sessions():  # noqa: ASYNC110 -- the broker tells nobody
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    def _session(self, context: ssl.SSLContext) -> None:
        target = Target(
            host="127.0.0.1",
            port=self._port,
            client_id=SENSOR.name,
            protocol=5,
            keepalive_s=60,
            timeout_s=10,
        )
        session = Session(target, context, WILL)
        session.open()
        session.publish(WILL)
        while not session.acks:
            session.step(1)
        session.close()


@asynccontextmanager
async def building(folder: Path) -> AsyncIterator[Building]:
    authority = Authority.open(folder / "authority", DOMAIN, clock=SystemClock())
    gateway = EmbeddedSource(authority, GATEWAY)
    async with Broker(
        limits=BrokerLimits(),
        store=MemorySink(),
        admit=admission.admit(gateway),
        decisions=None,
        clock=SystemClock(),
    ) as broker:
        made = Building(broker, authority, gateway)
        await made.listen()
        yield made


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def held() -> dict[str, int]:
    found = [type(one).__name__ for one in gc.get_objects() if isinstance(one, HELD)]
    return {name: found.count(name) for name in set(found)}


def no_more(now: dict[str, int], *, than: dict[str, int]) -> bool:
    return all(count <= than.get(name, 0) for name, count in now.items())


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_rotation_leaves_no_connection_and_no_context_behind(tmp_path: Path, loop: str) -> None:
    async def rotations() -> tuple[dict[str, int], dict[str, int]]:
        async with building(tmp_path) as one:
            with no_collector():
                for _ in range(2):  # the first time something stays for good
                    await one.rotate()
                before = held()
                for _ in range(4):
                    await one.rotate()
                # the loop closes a connection some turns after its session has gone
                with suppress(TimeoutError):
                    await eventually(lambda: no_more(held(), than=before), deadline_s=5)
                return before, held()

    before, after = (uvloop.run if loop == "uvloop" else asyncio.run)(rotations())
    assert no_more(after, than=before), (before, after)


@pytest.mark.soak
def test_memory_does_not_grow_with_rotations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def rotations() -> list[int]:
        seen = []
        async with building(tmp_path) as one:
            for number in range(SOAK_ROTATIONS):
                await one.rotate()
                if number % (SOAK_ROTATIONS // 10) == 0:
                    seen.append(resident_kib())
        return seen

    seen = uvloop.run(rotations())
    settled = seen[len(seen) // 2 :]  # arenas and caches fill first
    per_rotation = (settled[-1] - settled[0]) / (SOAK_ROTATIONS * (len(settled) - 1) / 10)
    with capsys.disabled():
        sys.stdout.write(
            f"\nrotations {SOAK_ROTATIONS}, RSS {seen} KiB, {per_rotation:.2f} KiB a rotation\n"
        )
    assert per_rotation < 4  # it was 380 with asyncio, 150 with uvloop, until collected
