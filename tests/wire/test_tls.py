"""TLS: mutual, pinned to one trust domain, without tickets, rotated under live connections."""

import contextlib
import datetime as dt
import gc
import socket
import ssl
import tempfile
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plantroom.wire import tls
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, Svid
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import BUILDING, CLOUD, HOUR, Issuer

GATEWAY = SpiffeId(BUILDING, "agent/gateway")
HVAC = SpiffeId(BUILDING, "agent/hvac-001")
TIMEOUT_S = 20


@pytest.fixture(scope="module")
def building() -> Issuer:
    return Issuer(BUILDING)


@pytest.fixture(scope="module")
def cloud() -> Issuer:
    return Issuer(CLOUD)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def accept(context: ssl.SSLContext, plain: socket.socket, check: Callable[[Any], object]) -> bytes:
    """One connection as a server: handshake, check, then answer what was said."""
    plain.settimeout(TIMEOUT_S)
    with context.wrap_socket(plain, server_side=True) as connection:
        check(connection)
        said = connection.recv(100)
        connection.sendall(said.upper())
        return said


def talk(
    pool: ThreadPoolExecutor,
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    check: Callable[[Any], object] = tls.peer_id,
) -> tuple[bytes, "Future[bytes]"]:
    """Say hello over TLS; returns the answer and what became of the server's side.

    A server that refuses cuts the connection: before or after our hello, hence no answer.
    """
    ours, theirs = socket.socketpair()
    served = pool.submit(accept, server, theirs, check)
    ours.settimeout(TIMEOUT_S)
    with client.wrap_socket(ours) as connection:
        try:
            connection.sendall(b"hello")
            return connection.recv(100), served
        except (ssl.SSLEOFError, ConnectionError):
            return b"", served


def gateway_context(building: Issuer, *trusted: Issuer) -> ssl.SSLContext:
    return tls.server_context(building.identity("agent/gateway", building, *trusted))


def test_two_of_one_trust_domain_talk_and_know_each_other(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    client = tls.client_context(building.identity("agent/hvac-001"), server_ids=[GATEWAY])
    seen: list[SpiffeId] = []
    server = gateway_context(building)
    answer, served = talk(pool, server, client, lambda peer: seen.append(tls.peer_id(peer)))
    assert answer == b"HELLO"
    assert served.result(TIMEOUT_S) == b"hello"
    assert seen == [HVAC]


def test_only_tls_1_3_is_spoken_and_no_ticket_is_given(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    server = gateway_context(building)
    client = tls.client_context(building.identity("agent/hvac-001"), server_ids=[GATEWAY])
    assert server.num_tickets == 0
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_3
    ours, theirs = socket.socketpair()
    served = pool.submit(accept, server, theirs, tls.peer_id)
    ours.settimeout(TIMEOUT_S)
    with client.wrap_socket(ours) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"HELLO"
        assert connection.version() == "TLSv1.3"
        assert connection.session is None or not connection.session.has_ticket
    served.result(TIMEOUT_S)

    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        talk(pool, gateway_context(building), old)


def test_a_server_with_another_id_is_refused_before_a_byte_is_sent(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    client = tls.client_context(building.identity("agent/hvac-001"), server_ids=[GATEWAY])
    impostor = tls.server_context(building.identity("agent/hvac-002"))
    ours, theirs = socket.socketpair()
    served = pool.submit(accept, impostor, theirs, tls.peer_id)
    with pytest.raises(IdentityError) as caught, client.wrap_socket(ours):
        pass
    ours.close()
    assert caught.value.reason == "wrong-peer"
    assert served.result(TIMEOUT_S) == b""


@pytest.mark.parametrize("said_by", ["client", "server"])
def test_the_clouds_root_cannot_vouch_for_an_id_of_a_building(
    building: Issuer, cloud: Issuer, pool: ThreadPoolExecutor, said_by: str
) -> None:
    """Both roots are trusted, so OpenSSL is content; the pin to the ID's trust domain is not."""
    liar = cloud.svid(str(GATEWAY if said_by == "server" else HVAC))
    bundles = {BUILDING: building.bundle(), CLOUD: cloud.bundle()}
    honest = building.identity("agent/gateway", building, cloud)
    forged = Identity(svid=liar, bundles=bundles, revision=1)
    if said_by == "server":
        device = building.identity("agent/hvac-001", building, cloud)
        cloud_id = SpiffeId(CLOUD, "agent/front")  # makes the client load both roots
        client = tls.client_context(device, server_ids=[GATEWAY, cloud_id])
        with pytest.raises(IdentityError) as caught:
            talk(pool, tls.server_context(forged), client)
    else:
        client = tls.client_context(forged, server_ids=[GATEWAY])

        def check(peer: Any) -> None:
            tls.check_anchor(peer, tls.peer_id(peer), honest)

        answer, served = talk(pool, tls.server_context(honest), client, check)
        assert answer == b""  # refused: nothing was answered
        with pytest.raises(IdentityError) as caught:
            served.result(TIMEOUT_S)
    assert caught.value.reason == "wrong-trust-domain"


def test_an_anchor_of_the_ids_own_trust_domain_is_accepted(
    building: Issuer, cloud: Issuer, pool: ThreadPoolExecutor
) -> None:
    honest = building.identity("agent/gateway", building, cloud)
    operator = cloud.identity("operator/ann", building, cloud)
    client = tls.client_context(operator, server_ids=[GATEWAY])

    def check(peer: Any) -> None:
        tls.check_anchor(peer, tls.peer_id(peer), honest)

    answer, _ = talk(pool, tls.server_context(honest), client, check)
    assert answer == b"HELLO"


def svid_client(issuer: Issuer, svid: Svid) -> ssl.SSLContext:
    identity = replace(issuer.identity("agent/x"), svid=svid)
    return tls.client_context(identity, server_ids=[GATEWAY])


def refusal(pool: ThreadPoolExecutor, server: ssl.SSLContext, client: ssl.SSLContext) -> Exception:
    """What the server raised; in TLS 1.3 the client learns of it at its first read."""
    ours, theirs = socket.socketpair()
    served = pool.submit(accept, server, theirs, tls.peer_id)
    ours.settimeout(TIMEOUT_S)
    with ours, client.wrap_socket(ours) as connection, contextlib.suppress(OSError):
        connection.sendall(b"hello")
        assert connection.recv(100) == b""
    error = served.exception(TIMEOUT_S)
    assert isinstance(error, Exception)
    return error


def test_a_client_without_a_certificate_is_refused(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    assert "did not return a certificate" in str(refusal(pool, gateway_context(building), client))


@pytest.mark.parametrize(
    ("starts", "ends", "text"),
    [(-2 * HOUR, -HOUR, "expired"), (HOUR, 2 * HOUR, "not yet valid")],
)
def test_a_client_outside_its_time_is_refused(
    building: Issuer,
    pool: ThreadPoolExecutor,
    starts: dt.timedelta,
    ends: dt.timedelta,
    text: str,
) -> None:
    client = svid_client(building, building.svid(str(HVAC), starts=starts, ends=ends))
    assert text in str(refusal(pool, gateway_context(building), client))


def test_a_client_of_an_unknown_issuer_is_refused(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    stranger = Issuer(BUILDING)
    client = svid_client(building, stranger.svid(str(HVAC)))
    assert refusal(pool, gateway_context(building), client)


@pytest.mark.parametrize(
    ("uris", "reason"),
    [
        ((), "uri-san"),
        ((str(HVAC), f"spiffe://{BUILDING}/agent/hvac-002"), "uri-san"),
        ((f"spiffe://{BUILDING}",), "spiffe-id"),
        (("https://example.org/hvac-001",), "spiffe-id"),
    ],
)
def test_a_client_without_exactly_one_spiffe_id_is_refused(
    building: Issuer, pool: ThreadPoolExecutor, uris: tuple[str, ...], reason: str
) -> None:
    svid = building.svid(str(HVAC))
    odd = _odd_svid(building, uris)
    client = svid_client(building, replace(svid, chain_pem=odd.chain_pem, key_pem=odd.key_pem))
    error = refusal(pool, gateway_context(building), client)
    assert isinstance(error, IdentityError)
    assert error.reason == reason


def _odd_svid(issuer: Issuer, uris: tuple[str, ...]) -> Svid:
    with pytest.MonkeyPatch.context() as patch:  # the fake parses its first URI; these are no IDs
        patch.setattr(SpiffeId, "parse", lambda text: SpiffeId(issuer.trust_domain, text))
        return issuer.svid(*uris)


# Rotation ----------------------------------------------------------------------------------------


def test_a_rotation_serves_the_next_handshake_and_leaves_live_connections_alone(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    first = building.identity("agent/gateway")
    second = building.identity("agent/gateway", revision=2)
    rotating = tls.RotatingServerContext(first)
    client = tls.client_context(building.identity("agent/hvac-001"), server_ids=[GATEWAY])

    def serve(plain: socket.socket) -> None:
        plain.settimeout(TIMEOUT_S)
        with rotating.context.wrap_socket(plain, server_side=True) as connection:
            for _ in range(2):
                connection.sendall(connection.recv(100).upper())

    ours, theirs = socket.socketpair()
    served = pool.submit(serve, theirs)
    with client.wrap_socket(ours) as live:
        live.sendall(b"before")
        assert live.recv(100) == b"BEFORE"
        assert serial_of(live) == int(first.svid.serial, 16)
        rotating.rotate(second)
        assert serial_at_next_handshake(pool, rotating.context, client) == second.svid.serial
        live.sendall(b"after")
        assert live.recv(100) == b"AFTER"
    served.result(TIMEOUT_S)


def serial_of(connection: ssl.SSLSocket) -> int:
    certificate = connection.getpeercert()
    assert certificate is not None
    return int(str(certificate["serialNumber"]), 16)


def serial_at_next_handshake(
    pool: ThreadPoolExecutor, server: ssl.SSLContext, client: ssl.SSLContext
) -> str:
    ours, theirs = socket.socketpair()
    served = pool.submit(accept, server, theirs, tls.peer_id)
    ours.settimeout(TIMEOUT_S)
    with client.wrap_socket(ours) as connection:
        serial = serial_of(connection)
        connection.sendall(b"x")
        assert connection.recv(1) == b"X"
    served.result(TIMEOUT_S)
    return f"{serial:x}"


def test_a_rotation_also_changes_whom_the_server_trusts(
    building: Issuer, cloud: Issuer, pool: ThreadPoolExecutor
) -> None:
    rotating = tls.RotatingServerContext(building.identity("agent/gateway"))
    ann = cloud.identity("operator/ann", building, cloud)
    client = tls.client_context(ann, server_ids=[GATEWAY])
    assert refusal(pool, rotating.context, client)
    rotating.rotate(building.identity("agent/gateway", building, cloud, revision=2))
    assert talk(pool, rotating.context, client)[0] == b"HELLO"


def test_a_rotation_to_a_broken_svid_fails_and_the_former_one_stays(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    identity = building.identity("agent/gateway")
    rotating = tls.RotatingServerContext(identity)
    other_key = building.svid(str(GATEWAY)).key_pem
    broken = replace(identity, svid=replace(identity.svid, key_pem=other_key), revision=2)
    with pytest.raises(IdentityError) as caught:
        rotating.rotate(broken)
    assert caught.value.reason == "bad-svid"
    client = tls.client_context(building.identity("agent/hvac-001"), server_ids=[GATEWAY])
    assert talk(pool, rotating.context, client)[0] == b"HELLO"


# Small rules -------------------------------------------------------------------------------------


def test_a_context_that_is_dropped_is_freed_at_once(building: Issuer) -> None:
    """A small agent makes one at every rotation; waiting for the collector, they pile up."""
    identity = building.identity("agent/hvac-001")
    context = tls.client_context(identity, server_ids=(identity.svid.spiffe_id,))
    gone = weakref.ref(context)
    gc.disable()
    try:
        del context
        assert gone() is None
    finally:
        gc.enable()


def test_a_client_needs_the_bundle_of_whom_it_wants_to_reach(building: Issuer) -> None:
    with pytest.raises(IdentityError) as caught:
        tls.client_context(
            building.identity("agent/gateway"), server_ids=[SpiffeId(CLOUD, "agent/front")]
        )
    assert (caught.value.reason, caught.value.where) == ("no-bundle", CLOUD)


def test_a_key_leaves_no_file_behind(
    building: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    identity = building.identity("agent/gateway")
    tls.server_context(identity)
    with pytest.raises(IdentityError):
        tls.server_context(replace(identity, svid=replace(identity.svid, chain_pem=b"none")))
    assert list(tmp_path.iterdir()) == []


def test_a_further_check_runs_in_the_clients_handshake(
    building: Issuer, pool: ThreadPoolExecutor
) -> None:
    def refuse(_peer: Any) -> None:
        raise IdentityError("revoked", reason="revoked")

    device = building.identity("agent/hvac-001")
    client = tls.client_context(device, server_ids=[GATEWAY], check=refuse)
    with pytest.raises(IdentityError, match="revoked"):
        talk(pool, gateway_context(building), client)


def test_a_connection_without_a_peer_has_no_id() -> None:
    class Nobody:
        def getpeercert(self) -> None:
            return None

    with pytest.raises(IdentityError) as caught:
        tls.peer_id(Nobody())
    assert caught.value.reason == "no-certificate"
