"""Authorities of two trust domains, and a forge for certificates that no authority would sign."""

import asyncio
import contextlib
import datetime as dt
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from plantroom.certs import certificates
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource, issue_svid
from plantroom.certs.enrolment_client import Server
from plantroom.certs.enrolment_server import EnrolmentServer
from plantroom.certs.registry import Registry
from plantroom.wire.clock import SystemClock
from plantroom.wire.identity import Identity, Svid
from plantroom.wire.spiffe import SpiffeId

BUILDING, CLOUD = "building-1.smart.local", "smart-building.cloud"


USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class SteppedClock:
    """This machine's clock, set off by as much as a test says."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def wall_us(self) -> int:
        return SystemClock().wall_us() + int(self.offset_s * 1e6)

    def monotonic_us(self) -> int:
        return SystemClock().monotonic_us()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def building(tmp_path: Path, clock: SteppedClock) -> Authority:
    return Authority.open(tmp_path / "building-authority", BUILDING, clock=clock)


@pytest.fixture
def cloud(tmp_path: Path, clock: SteppedClock) -> Authority:
    return Authority.open(tmp_path / "cloud-authority", CLOUD, clock=clock)


@pytest.fixture
def registry(tmp_path: Path, clock: SteppedClock) -> Iterator[Registry]:
    with contextlib.closing(Registry.open(tmp_path / "registry.db", clock=clock)) as opened:
        yield opened


@pytest.fixture
def sensor_id() -> SpiffeId:
    return SpiffeId.parse(f"spiffe://{BUILDING}/agent/hvac-001")


@pytest.fixture
def gateway_id() -> SpiffeId:
    return SpiffeId.parse(f"spiffe://{BUILDING}/agent/gateway")


@pytest.fixture
def gateway(building: Authority, cloud: Authority, gateway_id: SpiffeId) -> Identity:
    """The gateway's identity: it trusts both domains."""
    svid = issue_svid(building, gateway_id, ttl_s=3600, dns=("localhost",), ips=("127.0.0.1",))
    bundles = {authority.trust_domain: authority.bundle() for authority in (building, cloud)}
    return Identity(svid=svid, bundles=bundles, revision=1)


@pytest.fixture
def forge() -> Callable[..., Svid]:
    return _forge


def _forge(  # noqa: PLR0913 -- one keyword for each rule that can be broken
    signer: Authority | Svid | None,
    *uris: str,
    ca: bool | None = False,
    usage: tuple[str, ...] = ("digital_signature",),
    usage_critical: bool = True,
    extended: tuple[x509.ObjectIdentifier, ...] | None = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ),
    not_before_s: int = -10,
    not_after_s: int = 3600,
) -> Svid:
    """Sign what the arguments say by an authority's root, by another leaf, or (None) by itself."""
    key = certificates.new_key()
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")])
    issuer, signing_key, upper = _signer(signer) if signer else (subject, key, b"")
    serial = x509.random_serial_number()
    start, end = now + dt.timedelta(seconds=not_before_s), now + dt.timedelta(seconds=not_after_s)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        constraints = x509.BasicConstraints(ca=ca, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
    if usage:
        key_usage = x509.KeyUsage(**(dict.fromkeys(USAGES, False) | dict.fromkeys(usage, True)))
        builder = builder.add_extension(key_usage, critical=usage_critical)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signing_key, hashes.SHA256())
    return Svid(
        spiffe_id=SpiffeId(BUILDING, "forged"),
        chain_pem=certificate.public_bytes(serialization.Encoding.PEM) + upper,
        key_pem=certificates.key_pem(key),
        serial=f"{serial:X}",
        not_before_s=int(start.timestamp()),
        not_after_s=int(end.timestamp()),
    )


def _signer(signer: Authority | Svid) -> tuple[x509.Name, ec.EllipticCurvePrivateKey, bytes]:
    if isinstance(signer, Authority):
        return signer._loaded.active.certificate.subject, signer._loaded.key, b""
    key = serialization.load_pem_private_key(signer.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(signer.chain_pem).subject, key, signer.chain_pem


@dataclass
class Port:
    """An enrolment port that runs in a thread of its own, with its own event loop."""

    server: EnrolmentServer
    address: Server
    source: EmbeddedSource


@pytest.fixture(params=["asyncio", "uvloop"])
def enrolment(
    request: pytest.FixtureRequest,
    building: Authority,
    cloud: Authority,
    registry: Registry,
    clock: SteppedClock,
) -> Callable[..., AbstractContextManager[Port]]:
    """Open the building's enrolment port; keywords go to EnrolmentServer."""

    @contextlib.contextmanager
    def opened(**options: Any) -> Iterator[Port]:
        gateway_id = SpiffeId.parse(f"spiffe://{BUILDING}/agent/gateway")
        source = EmbeddedSource(building, gateway_id, bundles={CLOUD: cloud.bundle()})
        server = EnrolmentServer(building, registry, source, clock=clock, **options)
        ready: queue.SimpleQueue[tuple[int, Callable[[], object]]] = queue.SimpleQueue()

        async def run() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            async with server:
                port = await server.start("127.0.0.1", 0)
                ready.put((port, lambda: loop.call_soon_threadsafe(stop.set)))
                await stop.wait()

        with ThreadPoolExecutor(1) as pool:
            loop_run = uvloop.run if request.param == "uvloop" else asyncio.run
            running = pool.submit(loop_run, run())
            port, stop = ready.get(timeout=20)
            address = Server(host="127.0.0.1", port=port, spiffe_id=gateway_id, timeout_s=20)
            try:
                yield Port(server=server, address=address, source=source)
            finally:
                stop()
                running.result(20)

    return opened
