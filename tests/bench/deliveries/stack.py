"""A real gateway and a real cloud, set up as `plantroom up` does it, for any number of sensors."""

import asyncio
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.lab import ask, issuers, setup
from plantroom.lab.building import SITE, TRUST_DOMAIN
from plantroom.lab.chaos_way import BadWay
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from plantroom.lab.ports import HOST, Ports
from plantroom.wire.errors import ConfigError, UnreachableError
from plantroom.wire.spiffe import SpiffeId
from tests.bench.kit import loadgen
from tests.bench.kit.loadgen import LoadError
from tests.bench.kit.running import ROOT, Running, running

TOPIC = f"v1/{SITE}/telemetry/{{name}}"
DATA = ROOT.parent / "shared" / "data"  # recordings, where they are at hand
_TTL_S = 12 * 3600
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all figures share."""

    work: Path
    program: Path
    quick: bool
    say: Callable[[str], None]
    serial: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def folder(self, name: str) -> Path:
        """Make a folder that nobody has used."""
        made = self.work / f"{name}-{next(self.serial)}"
        made.mkdir()
        return made


@contextmanager
def bench(folder: Path, *, quick: bool, say: Callable[[str], None]) -> Iterator[Bench]:
    """Compile the generator, in a folder that goes afterwards."""
    work = folder / f"plantroom-bench-{time.monotonic_ns()}"
    work.mkdir(parents=True)
    try:
        yield Bench(work=work, program=loadgen.build(work), quick=quick, say=say)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class Way:
    """A `BadWay` on a thread of its own, for those who have no loop."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self.way = BadWay("wan", port, Random(1))  # noqa: S311 -- no secret
        self._thread = threading.Thread(target=self._run, name="way")

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self.way.running():
            self._ready.set()
            await self._end.wait()

    def cut(self) -> None:
        """Cut it."""
        self._loop.call_soon_threadsafe(self.way.cut)

    def swallow(self) -> None:
        """Let it swallow everything."""
        self._loop.call_soon_threadsafe(self.way.swallow)

    def mend(self) -> None:
        """Mend it."""
        self._loop.call_soon_threadsafe(self.way.mend)

    @contextmanager
    def running(self) -> Iterator["Way"]:
        """Listen while the block runs."""
        self._thread.start()
        self._ready.wait(_PATIENCE_S)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(_PATIENCE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Gateway and cloud that run, the way between them, and identities for the load."""

    layout: Layout
    ports: Ports
    wan: Way | None  # None: the bridge goes straight to the cloud
    gateway: Running
    cloud: Running
    identities: Path

    def stored(self) -> int:
        """Return how many readings the cloud has stored since it started."""
        return int(_figure(self.ports.cloud_http, "plantroom_ingest_stored_total"))

    def queued(self) -> int:
        """Return how many readings wait at the gateway; 0 while it is too busy to say."""
        try:
            status = ask.get_json(self.ports.gateway_http, "/api/status")
        except UnreachableError:
            return 0
        return int(status["queued"])

    def until_stored(self, count: int, *, patience_s: float) -> float:
        """Wait until so many are stored; return the moment.

        Raises:
            LoadError: when they are not in time.
        """
        give_up_s = time.monotonic() + patience_s
        while (found := self.stored()) < count:
            if time.monotonic() > give_up_s:
                raise LoadError(f"{found} of {count} readings are stored after {patience_s:g} s")
            time.sleep(0.05)
        return time.monotonic()

    def until_connected(self, *, patience_s: float) -> None:
        """Wait until the cloud has answered the bridge.

        Raises:
            LoadError: when it does not in time.
        """
        give_up_s = time.monotonic() + patience_s
        while not ask.get_json(self.ports.gateway_http, "/api/status")["link"]["connected"]:
            if time.monotonic() > give_up_s:
                raise LoadError("the bridge does not come up")
            time.sleep(0.05)

    def until_queued(self, count: int, *, patience_s: float) -> None:
        """Wait until so many wait at the gateway.

        Raises:
            LoadError: when they do not in time.
        """
        give_up_s = time.monotonic() + patience_s
        while (found := self.queued()) < count:
            if time.monotonic() > give_up_s:
                raise LoadError(f"{found} of {count} readings are queued after {patience_s:g} s")
            time.sleep(0.2)


def _figure(port: int, name: str) -> float:
    _, page = ask.get(port, "/metrics", timeout_s=_PATIENCE_S)
    found = re.search(rf"^{name} (\S+)$", page.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextmanager
def stack(
    bench: Bench, sensors: list[str], *, wrap: tuple[str, ...] = (), cut: bool = False
) -> Iterator[Stack]:
    """Run both; `wrap` is a command that the gateway runs under.

    `cut`: the bridge goes through a way that is cut to begin with.
    """
    folder = bench.folder("stack")
    layout, ports = Layout(folder / "state"), free_ports()
    flags = Flags(devices=0, port_base=ports.gateway_mqtt)
    setup.prepare(layout, flags, ())
    identities = _identities(layout, folder, sensors)
    with ExitStack() as opened:
        cloud = opened.enter_context(_process(layout, "cloud", ports.cloud_http, folder, (), {}))
        wan, bridged = None, {}
        if cut:
            wan = opened.enter_context(Way(ports.cloud_mqtt).running())
            wan.cut()
            bridged = {"PLANTROOM_BRIDGE_ADDRESS": wan.way.address}
        gateway = opened.enter_context(
            _process(layout, "gateway", ports.gateway_http, folder, wrap, bridged)
        )
        _until_healthy(ports)
        yield Stack(
            layout=layout,
            ports=ports,
            wan=wan,
            gateway=gateway,
            cloud=cloud,
            identities=identities,
        )


def _process(  # noqa: PLR0913, PLR0917 -- one process, spelled out
    layout: Layout,
    kind: str,
    port: int,
    folder: Path,
    wrap: tuple[str, ...],
    environment: dict[str, str],
) -> AbstractContextManager[Running]:
    command = [*wrap, sys.executable, "-m", f"plantroom.{kind}", str(layout.config(kind))]
    return running(command, port=port, folder=folder / kind, environment=environment)


def _until_healthy(ports: Ports) -> None:
    give_up_s = time.monotonic() + _PATIENCE_S
    while not (ask.is_healthy(ports.cloud_http) and ask.is_healthy(ports.gateway_http)):
        if time.monotonic() > give_up_s:
            raise LoadError("gateway or cloud is not healthy")
        time.sleep(0.1)


def _identities(layout: Layout, folder: Path, sensors: list[str]) -> Path:
    """Register the sensors, and write their SVIDs as the generator reads them."""
    issuer = issuers.building(layout)
    authority = issuer.authority()
    made = folder / "identities"
    made.mkdir()
    with issuer.registry() as registry:
        for name in sensors:
            spiffe_id = SpiffeId.parse(f"spiffe://{TRUST_DOMAIN}/agent/{name}")
            registry.create(spiffe_id)
            key = ec.generate_private_key(ec.SECP256R1())
            chain = authority.issue(spiffe_id, key.public_key(), ttl_s=_TTL_S)
            plain = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            (made / f"{name}.pem").write_bytes(chain + plain)
    (made / "roots.pem").write_bytes(layout.inspector.ca.read_bytes())
    return made


def free_ports() -> Ports:
    for base in range(24_000, 31_000, 6):
        ports = Ports.from_base(base)
        try:
            ports.check_free()
        except ConfigError:
            continue
        return ports
    raise UnreachableError("no six free ports in a row", where=HOST)
