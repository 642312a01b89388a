"""A broker for other people's clients: in a thread of its own, one listener plain, one mTLS."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plantroom.broker.pem import PemContext, admit
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits, IdentitySection
from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.wire.clock import SystemClock
from plantroom.wire.database import Database
from tests.fakes.issuer import BUILDING, Issuer

HOST = "127.0.0.1"
START_S = 20.0


@dataclass(frozen=True, slots=True)
class Files:
    """A client's certificate, key and the root that it trusts."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, and with what; without files it is plain TCP."""

    port: int
    files: Files | None = None

    def context(self) -> ssl.SSLContext | None:
        if self.files is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.files.ca)
        context.load_cert_chain(self.files.cert, self.files.key)
        return context


def pem_files(folder: Path, issuer: Issuer, path: str) -> Files:
    """Write one identity as the files that other people's tools read."""
    svid = issuer.svid(f"spiffe://{BUILDING}/{path}")
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    files.cert.write_bytes(svid.chain_pem)
    files.key.write_bytes(svid.key_pem)
    files.ca.write_text(ssl.DER_cert_to_PEM_cert(issuer.bundle().roots_der[0]))
    return files


@dataclass(frozen=True, slots=True)
class Stand:
    """A running broker."""

    plain: Address
    secured: Address
    broker: Broker


@contextmanager
def standing(folder: Path) -> Iterator[Stand]:
    """Run a broker in a thread until the end of the block."""
    issuer = Issuer(BUILDING)
    server = pem_files(folder / "server", issuer, "agent/broker")
    client = pem_files(folder / "client", issuer, "agent/hvac-001")
    started: Future[Stand] = Future()
    stop: Future[None] = Future()

    async def main() -> None:
        identity = IdentitySection(
            certificate=str(server.cert), key=str(server.key), client_roots=str(server.ca)
        )
        database = Database.open(folder / "broker.db", MIGRATIONS)
        broker = Broker(
            limits=BrokerLimits(sys_interval_s=0.5),
            store=SqliteStore(database),
            admit=admit,
            decisions=None,
            clock=SystemClock(),
        )
        try:
            async with broker:
                plain = await broker.listen(HOST, 0, None)
                secured = await broker.listen(HOST, 0, PemContext(identity).context)
                started.set_result(Stand(Address(plain), Address(secured, client), broker))
                await asyncio.wrap_future(stop)
        finally:
            database.close()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="stand")
    thread.start()
    try:
        yield started.result(START_S)
    finally:
        stop.set_result(None)
        thread.join(START_S)
