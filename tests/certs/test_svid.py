"""The rules of X.509-SVIDs, each broken once, at a real TLS listener."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from cryptography.x509.oid import ExtendedKeyUsageOID

from plantroom.certs import svid
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError
from plantroom.wire.handshake import refusal_reason
from plantroom.wire.identity import Identity, Principal, Svid
from plantroom.wire.spiffe import SpiffeId

SENSOR = "spiffe://building-1.smart.local/agent/hvac-001"
Forge = Callable[..., Svid]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

loops = pytest.mark.parametrize(
    "run", [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
)


def client(svid_shown: Svid | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that shows what it is told to and trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.maximum_version = version
    if svid_shown:
        tls.load_svid(context, svid_shown)
    return context


async def meet(gateway: Identity, shown: ssl.SSLContext) -> Principal | str:
    """Let a client connect to the gateway's listener; return who it is, or why it was refused."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        dialling = asyncio.create_task(dial(listener.getsockname()[1], shown))
        accepted, _ = await loop.sock_accept(listener)
        try:
            transport, _ = await loop.connect_accepted_socket(
                asyncio.Protocol, accepted, ssl=tls.server_context(gateway), ssl_handshake_timeout=5
            )
        except OSError as error:
            await dialling
            return refusal_reason(error)
        try:
            return svid.verify_peer(transport.get_extra_info("ssl_object"), gateway)
        except IdentityError as error:
            return error.reason
        finally:
            transport.abort()
            await dialling


async def dial(port: int, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=""
        )
        try:
            await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@loops
def test_a_sensor_of_the_building_is_who_its_svid_says(
    run: Run, gateway: Identity, building: Authority, sensor_id: SpiffeId
) -> None:
    shown = issue_svid(building, sensor_id, ttl_s=600)
    found = run(meet(gateway, client(shown)))
    assert found == Principal(
        spiffe_id=sensor_id, serial=shown.serial, not_after_s=shown.not_after_s
    )


@loops
def test_a_genuine_cloud_service_is_let_in(run: Run, gateway: Identity, cloud: Authority) -> None:
    operator = SpiffeId.parse("spiffe://smart-building.cloud/operator/ann")
    found = run(meet(gateway, client(issue_svid(cloud, operator, ttl_s=600))))
    assert isinstance(found, Principal)
    assert found.spiffe_id == operator


@loops
def test_a_building_id_signed_by_the_cloud_is_refused(
    run: Run, gateway: Identity, cloud: Authority, forge: Forge
) -> None:
    assert run(meet(gateway, client(forge(cloud, SENSOR)))) == "wrong-trust-domain"


@loops
def test_a_cloud_id_signed_by_the_building_is_refused(
    run: Run, gateway: Identity, building: Authority, forge: Forge
) -> None:
    shown = forge(building, "spiffe://smart-building.cloud/operator/ann")
    assert run(meet(gateway, client(shown))) == "wrong-trust-domain"


@loops
@pytest.mark.parametrize(
    ("uris", "broken", "reason"),
    [
        ((SENSOR, SENSOR + "-b"), {}, "uri-san"),
        ((), {}, "uri-san"),
        (("spiffe://building-1.smart.local",), {}, "no-path"),
        (("spiffe://building-1.smart.local/",), {}, "spiffe-id"),
        (("spiffe://building-1.smart.local/agent//x",), {}, "spiffe-id"),
        (("spiffe://building-1.smart.local/agent/../gateway",), {}, "spiffe-id"),
        (("https://building-1.smart.local/agent/x",), {}, "spiffe-id"),
        (("spiffe://Building-1.smart.local/agent/x",), {}, "spiffe-id"),
        ((SENSOR,), {"ca": True}, "ca-leaf"),
        ((SENSOR,), {"usage": ("digital_signature", "key_cert_sign")}, "key-usage"),
        ((SENSOR,), {"usage": ("digital_signature", "crl_sign")}, "key-usage"),
        ((SENSOR,), {"usage_critical": False}, "key-usage"),
        ((SENSOR,), {"usage": ()}, "key-usage"),
        ((SENSOR,), {"extended": (ExtendedKeyUsageOID.CLIENT_AUTH,)}, "extended-key-usage"),
        ((SENSOR,), {"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "extended-key-usage"),
        ((SENSOR,), {"not_before_s": -7200, "not_after_s": -3600}, "expired"),
        ((SENSOR,), {"not_before_s": 3600, "not_after_s": 7200}, "not-yet-valid"),
    ],
)
def test_a_leaf_that_breaks_a_rule_is_refused_with_its_reason(  # noqa: PLR0913, PLR0917 -- fixtures
    run: Run,
    gateway: Identity,
    building: Authority,
    forge: Forge,
    uris: tuple[str, ...],
    broken: dict[str, Any],
    reason: str,
) -> None:
    assert run(meet(gateway, client(forge(building, *uris, **broken)))) == reason


@loops
def test_a_self_signed_certificate_is_refused(run: Run, gateway: Identity, forge: Forge) -> None:
    assert run(meet(gateway, client(forge(None, SENSOR)))) == "self-signed"


@loops
def test_a_root_of_the_same_trust_domain_that_is_not_in_the_bundle_is_refused(
    run: Run, gateway: Identity, forge: Forge, tmp_path: Any, clock: Any
) -> None:
    impostor = Authority.open(tmp_path / "impostor", "building-1.smart.local", clock=clock)
    assert run(meet(gateway, client(forge(impostor, SENSOR)))) == "unknown-issuer"


@loops
def test_a_certificate_signed_by_a_leaf_is_refused(
    run: Run, gateway: Identity, building: Authority, forge: Forge, sensor_id: SpiffeId
) -> None:
    sensor = issue_svid(building, sensor_id, ttl_s=600)
    shown = forge(sensor, "spiffe://building-1.smart.local/agent/gateway")
    assert run(meet(gateway, client(shown))) == "ca-invalid"


@loops
def test_a_client_without_a_certificate_is_refused(run: Run, gateway: Identity) -> None:
    assert run(meet(gateway, client(None))) == "no-certificate"


@loops
def test_tls_1_2_is_refused(
    run: Run, gateway: Identity, building: Authority, sensor_id: SpiffeId
) -> None:
    shown = client(issue_svid(building, sensor_id, ttl_s=600), ssl.TLSVersion.TLSv1_2)
    assert run(meet(gateway, shown)) == "tls-version"


def test_a_leaf_without_basic_constraints_or_extended_key_usage_is_conformant(
    building: Authority, forge: Forge
) -> None:
    leaf = forge(building, SENSOR, ca=None, extended=None)
    assert svid.parse_svid(leaf.chain_pem, leaf.key_pem).spiffe_id == SpiffeId.parse(SENSOR)


def test_an_svid_with_another_key_is_not_parsed(building: Authority, forge: Forge) -> None:
    one, other = forge(building, SENSOR), forge(building, SENSOR)
    with pytest.raises(IdentityError) as caught:
        svid.parse_svid(one.chain_pem, other.key_pem)
    assert caught.value.reason == "bad-key"


def test_bytes_that_are_no_certificate_are_named_so() -> None:
    with pytest.raises(IdentityError) as caught:
        svid.load(b"\x30\x03\x02\x01\x00")
    assert caught.value.reason == "bad-certificate"


def test_a_chain_is_signed_up_to_a_root_by_those_who_may_sign(
    building: Authority, cloud: Authority, forge: Forge, sensor_id: SpiffeId
) -> None:
    known = issue_svid(building, sensor_id, ttl_s=600)
    roots = building.bundle().roots_der
    svid.check_chain(known.chain_pem, roots)
    of_a_leaf = forge(known, SENSOR)
    for chain, trusted in (
        (known.chain_pem, cloud.bundle().roots_der),
        (known.chain_pem, ()),
        (of_a_leaf.chain_pem, roots),
        (of_a_leaf.chain_pem + known.chain_pem, roots),
    ):
        with pytest.raises(IdentityError) as caught:
            svid.check_chain(chain, trusted)
        assert caught.value.reason in {"untrusted", "bad-certificate"}
