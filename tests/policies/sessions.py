"""Many sensors on one broker that asks a policy: raw MQTT 5 clients on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from plantroom.broker.memory import MemorySink
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.policies.desk import PolicyDesk
from plantroom.wire.clock import SystemClock
from plantroom.wire.identity import Principal
from plantroom.wire.policy import Decision, DecisionPoint, Question

SITE, DOMAIN = "building-1", "building-1.smart.local"


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(kind: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, part = divmod(size, 128)
        length += bytes([part | (128 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


class Crowd:
    """Connected sensors, each with one subscription."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.readers: dict[str, asyncio.StreamReader] = {}
        self.writers: list[asyncio.StreamWriter] = []

    @staticmethod
    def id_of(name: str) -> str:
        return f"spiffe://{DOMAIN}/agent/{name}"

    @property
    def connected(self) -> int:
        return sum(session.connected for session in self.broker.sessions())

    @property
    def subscriptions(self) -> int:
        return sum(len(session.subscriptions) for session in self.broker.sessions())

    async def join(self, port: int, name: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.readers[name] = reader
        self.writers.append(writer)
        writer.write(packet(0x10, text("MQTT") + b"\x05\x02\x02\x58\x00" + text(name)))
        await self.answer(reader, 0x20)
        wanted = text(f"v1/{SITE}/twin/{name}/desired")
        writer.write(packet(0x82, b"\x00\x01\x00" + wanted + b"\x01"))
        assert (await self.answer(reader, 0x90))[-1] == 1

    @staticmethod
    async def answer(reader: asyncio.StreamReader, kind: int) -> bytes:
        async with asyncio.timeout(20):
            head = await reader.readexactly(2)
            body = await reader.readexactly(head[1])
        assert head[0] == kind, head
        return body

    async def last_words(self, name: str) -> int:
        """Return the reason code of the DISCONNECT that this sensor got."""
        return (await self.answer(self.readers[name], 0xE0))[0]


class ByClientId:
    """Asks for who a client says it is: without TLS nobody has an identity."""

    def __init__(self, inner: DecisionPoint) -> None:
        self._inner = inner
        self.on_change = inner.on_change

    @property
    def generation(self) -> int:
        return self._inner.generation

    def now(self, question: Question) -> Decision | None:
        return self._inner.now(self._named(question))

    async def decide(self, question: Question) -> Decision:
        return await self._inner.decide(self._named(question))

    @staticmethod
    def _named(question: Question) -> Question:
        who = Crowd.id_of(question.client_id)
        return replace(question, spiffe_id=who, cert_serial="0A")


def _nobody(_connection: Any) -> Principal:
    raise AssertionError("a plain listener admits without asking")


@asynccontextmanager
async def crowd(
    office: PolicyDesk, names: Sequence[str], world: dict[str, Any]
) -> AsyncIterator[Crowd]:
    """Register and connect these sensors."""
    devices = {
        Crowd.id_of(name): {"role": "sensor", "site": SITE, "device": name, "status": "active"}
        for name in names
    }
    office.update(registry={"devices": devices}, revocation=world["revocation"])
    broker = Broker(
        limits=BrokerLimits(sys_interval_s=0.0),
        store=MemorySink(),
        admit=_nobody,
        decisions=ByClientId(office.decisions),
        clock=SystemClock(),
    )
    async with broker:
        port = await broker.listen("127.0.0.1", 0, None)
        made = Crowd(broker)
        try:
            for name in names:
                await made.join(port, name)
            yield made
        finally:
            for writer in made.writers:
                writer.close()
            await asyncio.gather(*(w.wait_closed() for w in made.writers), return_exceptions=True)
