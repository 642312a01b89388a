"""The enrolment port as a device meets it: real TLS, real HTTP, real refusals."""

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from plantroom.certs import bundle, enrolment_client, key_helper, own_svid
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource, issue_svid
from plantroom.certs.enrolment_server import EnrolmentServer
from plantroom.certs.https import HttpsLimits
from plantroom.certs.registry import Registry
from plantroom.wire import tls
from plantroom.wire.errors import ConfigError, IdentityError, RefusedError, UnreachableError
from plantroom.wire.identity import Svid
from plantroom.wire.spiffe import SpiffeId

Open = Callable[..., AbstractContextManager[Any]]
Forge = Callable[..., Svid]
DAY_S = 86_400


@pytest.fixture(scope="module")
def sensor_request() -> key_helper.KeyAndRequest:
    return key_helper.make(SpiffeId.parse("spiffe://building-1.smart.local/agent/hvac-001"))


def refusal(caught: Any) -> str:
    assert isinstance(caught.value, RefusedError)
    return caught.value.reason


def ask(port: Any, method: str, path: str, body: bytes = b"", shown: Svid | None = None) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if shown:
        tls.load_svid(context, shown)
    with contextlib.closing(
        http.client.HTTPSConnection("127.0.0.1", port.address.port, context=context, timeout=10)
    ) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_join_token_gives_the_svid_that_it_is_bound_to(
    enrolment: Open,
    registry: Registry,
    building: Authority,
    sensor_id: SpiffeId,
    sensor_request: key_helper.KeyAndRequest,
) -> None:
    registry.create(sensor_id, ttl_s=1200, dns=("hvac-001.local",))
    token = registry.token_create(sensor_id)
    with enrolment() as port:
        answer = enrolment_client.enrol(
            port.address, building.bundle(), token=token, csr_pem=sensor_request.csr_pem
        )
    svid = own_svid.read_svid(answer.chain_pem, sensor_request.key_pem)
    assert svid.spiffe_id == sensor_id
    assert own_svid.key_belongs(svid)
    assert 1200 <= svid.not_after_s - svid.not_before_s <= 1320
    assert set(answer.bundles) == {"building-1.smart.local", "smart-building.cloud"}
    issued = registry.last_issued(sensor_id)
    assert issued is not None
    assert issued.serial == svid.serial


def test_a_csr_that_asks_for_another_id_is_refused_with_its_audit_row(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    building: Authority,
    sensor_id: SpiffeId,
    sensor_request: key_helper.KeyAndRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.create(sensor_id)
    token, trust = registry.token_create(sensor_id), building.bundle()
    greedy = key_helper.make(SpiffeId.parse("spiffe://building-1.smart.local/agent/gateway"))
    svid = issue_svid(building, sensor_id, ttl_s=600)
    with enrolment() as port, caplog.at_level(logging.WARNING, "plantroom.certs.audit"):
        with pytest.raises(RefusedError) as first:
            enrolment_client.enrol(port.address, trust, token=token, csr_pem=greedy.csr_pem)
        with pytest.raises(RefusedError) as renewal:
            enrolment_client.renew(port.address, trust, svid=svid, csr_pem=greedy.csr_pem)
        assert (refusal(first), refusal(renewal)) == ("wrong-id", "wrong-id")
        lines = [record.getMessage() for record in caplog.records]
        assert all(line.endswith(f" id={sensor_id} reason=wrong-id") for line in lines)
        assert len(lines) == 2
        csr = sensor_request.csr_pem  # the token was not spent
        assert enrolment_client.enrol(port.address, trust, token=token, csr_pem=csr)
        assert enrolment_client.renew(port.address, trust, svid=svid, csr_pem=csr)


def test_a_token_is_good_for_one_key_only(
    enrolment: Open,
    registry: Registry,
    building: Authority,
    sensor_id: SpiffeId,
    sensor_request: key_helper.KeyAndRequest,
) -> None:
    registry.create(sensor_id)
    token = registry.token_create(sensor_id)
    thief = key_helper.make(sensor_id)
    with enrolment() as port:
        for _ in range(2):  # the first answer may have been lost
            enrolment_client.enrol(
                port.address, building.bundle(), token=token, csr_pem=sensor_request.csr_pem
            )
        with pytest.raises(RefusedError) as caught:
            enrolment_client.enrol(
                port.address, building.bundle(), token=token, csr_pem=thief.csr_pem
            )
    assert refusal(caught) == "token-used"


def test_bad_tokens_and_requests_are_refused_each_with_its_reason(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    sensor_id: SpiffeId,
    sensor_request: key_helper.KeyAndRequest,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.create(sensor_id)
    token = registry.token_create(sensor_id)
    csr = sensor_request.csr_pem.decode()
    damaged = csr.replace(csr[100:104], "AAAA")
    with enrolment() as port, caplog.at_level(logging.WARNING, "plantroom.certs.audit"):
        found = [
            ask(port, "POST", "/enrol", json.dumps({"token": "no", "csr": csr}).encode()),
            ask(port, "POST", "/enrol", json.dumps({"token": token, "csr": "no"}).encode()),
            ask(port, "POST", "/enrol", json.dumps({"token": token, "csr": damaged}).encode()),
            ask(port, "POST", "/enrol", json.dumps({"token": token}).encode()),
            ask(port, "POST", "/enrol", json.dumps([token, csr]).encode()),
            ask(port, "POST", "/enrol", b"{" * 50_000),
            ask(port, "POST", "/renew", json.dumps({"csr": csr}).encode()),
            ask(port, "GET", "/enrol"),
            ask(port, "GET", "/else"),
            ask(port, "POST", "/enrol", b" " * 70_000),
        ]
        clock.offset_s = 601
        late = ask(port, "POST", "/enrol", json.dumps({"token": token, "csr": csr}).encode())
    words = [(status, table["reason"]) for status, table in [*found, late]]
    assert words[2][1] in {"csr-signature", "csr-bad"}
    assert [*words[:2], *words[3:]] == [
        (403, "token-unknown"),
        (400, "csr-bad"),
        (400, "bad-request"),
        (400, "bad-request"),
        (400, "bad-request"),
        (403, "no-certificate"),
        (405, "method"),
        (404, "not-found"),
        (413, "body-too-large"),
        (403, "token-expired"),
    ]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(words)
    for line, (_, reason) in zip(lines, words, strict=True):
        assert line.startswith("refused peer=127.0.0.1:")
        assert line.endswith(f"reason={reason}")
    assert f"id={sensor_id} " in lines[-1]


def test_a_renewal_needs_an_entry_that_is_not_denied(
    enrolment: Open,
    registry: Registry,
    building: Authority,
    sensor_id: SpiffeId,
    sensor_request: key_helper.KeyAndRequest,
) -> None:
    svid = issue_svid(building, sensor_id, ttl_s=600)

    def renew(port: Any) -> object:
        return enrolment_client.renew(
            port.address, building.bundle(), svid=svid, csr_pem=sensor_request.csr_pem
        )

    with enrolment() as port:
        with pytest.raises(RefusedError) as no_entry:
            renew(port)
        registry.create(sensor_id)
        assert renew(port)
        registry.deny(sensor_id, reason="stolen")
        with pytest.raises(RefusedError) as denied:
            renew(port)
        assert registry.restore(sensor_id)
        registry.deny(svid.serial, reason="key leaked")
        with pytest.raises(RefusedError) as serial_denied:
            renew(port)
        registry.restore(svid.serial)
        assert renew(port)
    assert [refusal(x) for x in (no_entry, denied, serial_denied)] == [
        "no-entry",
        "denied",
        "denied",
    ]


def test_an_svid_that_expired_a_while_ago_comes_back_and_an_older_one_does_not(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    building: Authority,
    forge: Forge,
    sensor_id: SpiffeId,
    sensor_request: key_helper.KeyAndRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.create(sensor_id)
    csr = sensor_request.csr_pem

    def expired(days: float) -> Svid:
        end_s = int(-days * DAY_S)
        return forge(building, str(sensor_id), not_before_s=end_s - 3600, not_after_s=end_s)

    def ahead(days: float) -> Svid:
        begin_s = int(days * DAY_S)
        return forge(building, str(sensor_id), not_before_s=begin_s, not_after_s=begin_s + 3600)

    def renew(port: Any, svid: Svid) -> object:
        return enrolment_client.renew(port.address, building.bundle(), svid=svid, csr_pem=csr)

    with enrolment() as port, caplog.at_level(logging.WARNING, "plantroom.certs.enrolment"):
        assert renew(port, expired(29.9))
        assert "late renewal" in caplog.text
        assert str(sensor_id) in caplog.text
        with pytest.raises(RefusedError) as too_long:
            renew(port, expired(30.1))
        with pytest.raises(RefusedError) as early:
            renew(port, ahead(30.1))
        assert renew(port, ahead(1.1))  # of a clock that was ahead, signed by our root
        assert "early renewal" in caplog.text
        registry.deny(sensor_id, reason="gone")
        with pytest.raises(RefusedError) as denied:
            renew(port, expired(1))
        with pytest.raises(RefusedError) as denied_early:
            renew(port, ahead(1))
        assert {m.name: m.value for m in port.server.metrics()}["plantroom_enrolment_late_total"]
    registry.restore(sensor_id)
    with enrolment(late_s_max=0) as port:
        with pytest.raises(RefusedError) as off:
            renew(port, expired(0.001))
        with pytest.raises(RefusedError) as off_early:
            renew(port, ahead(0.1))
    assert [refusal(x) for x in (too_long, early, denied, denied_early, off, off_early)] == [
        "expired-too-long",
        "not-yet-valid",
        "denied",
        "denied",
        "expired",
        "not-yet-valid",
    ]


def test_a_renewal_by_anybody_who_is_not_whom_it_says_is_refused(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    building: Authority,
    cloud: Authority,
    forge: Forge,
    sensor_id: SpiffeId,
    sensor_request: key_helper.KeyAndRequest,
) -> None:
    registry.create(sensor_id)
    csr = sensor_request.csr_pem
    impostors = [
        forge(cloud, str(sensor_id)),
        forge(None, str(sensor_id)),
        forge(building, str(sensor_id), "spiffe://building-1.smart.local/agent/gateway"),
        forge(building, str(sensor_id), ca=True),
        issue_svid(cloud, SpiffeId.parse("spiffe://smart-building.cloud/operator/x"), ttl_s=60),
    ]
    with enrolment() as port:
        for impostor in impostors:
            with pytest.raises((RefusedError, UnreachableError)):
                enrolment_client.renew(port.address, building.bundle(), svid=impostor, csr_pem=csr)
        assert ask(port, "GET", "/bundle")[0] == 200  # by now the last refusal has been counted
        counted = dict(port.server._https.refusals)
    assert counted == {"unknown-issuer": 2, "self-signed": 1, "uri-san": 1, "ca-leaf": 1}


def test_the_bundle_is_served_to_anybody_and_pinned_by_its_fingerprint(
    enrolment: Open, building: Authority
) -> None:
    import hashlib

    fingerprint = hashlib.sha256(building.bundle().roots_der[0]).hexdigest()
    with enrolment() as port:
        status, table = ask(port, "GET", "/bundle")
        fetched = enrolment_client.fetch_bundle(port.address, root_sha256=fingerprint)
        with pytest.raises(IdentityError) as caught:
            enrolment_client.fetch_bundle(port.address, root_sha256="0" * 64)
    assert status == 200
    assert bundle.from_jwks("building-1.smart.local", table) == building.bundle() == fetched
    assert caught.value.reason == "bundle-fingerprint"


def test_a_slow_caller_is_cut_and_the_next_is_served(enrolment: Open) -> None:
    hasty = HttpsLimits(handshake_s_max=0.3), HttpsLimits(request_s_max=0.3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with enrolment() as port:
        address, server = ("127.0.0.1", port.address.port), port.server._https
        patient, server._limits = server._limits, hasty[0]
        with socket.create_connection(address, 20) as silent:  # never begins its handshake
            assert silent.recv(1) == b""
        server._limits = hasty[1]
        with (
            socket.create_connection(address, 20) as plain,
            context.wrap_socket(plain) as half,
            contextlib.suppress(ConnectionError),  # it was cut before it had said that much
        ):
            half.sendall(b"POST /enrol HTTP/1.1\r\nContent-Le")
            assert half.recv(1) == b""
        server._limits = patient
        assert ask(port, "GET", "/bundle")[0] == 200
        assert port.server._https.refusals == {"timeout": 2}


def test_garbage_and_oversized_headers_are_refused(enrolment: Open) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with enrolment() as port:
        address = ("127.0.0.1", port.address.port)
        with socket.create_connection(address, 20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(20)
            while plain.recv(1000):
                pass
        for sent in (b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000):
            with (
                socket.create_connection(address, 20) as plain,
                context.wrap_socket(plain) as connection,
            ):
                connection.settimeout(20)
                connection.sendall(sent)
                assert connection.recv(1000).startswith(b"HTTP/1.1 4")
        assert ask(port, "GET", "/bundle")[0] == 200
        assert port.server._https.refusals == {"not-tls": 1, "bad-http": 2}


def test_one_address_cannot_take_every_connection(enrolment: Open) -> None:
    limits = HttpsLimits(connections_max=8, connections_per_address_max=2, handshake_s_max=5)
    with enrolment(limits=limits) as port, contextlib.ExitStack() as held:
        address = ("127.0.0.1", port.address.port)
        for _ in range(2):
            held.enter_context(socket.create_connection(address, 20))
        third = held.enter_context(socket.create_connection(address, 20))
        third.settimeout(20)
        assert third.recv(1) == b""
        assert port.server._https.refusals == {"too-many-connections": 1}


def test_the_ports_own_svid_rotates_between_two_connections(
    enrolment: Open, building: Authority
) -> None:
    def serial(port: Any) -> str:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.load_verify_locations(cadata=building.bundle().roots_der[0])
        with (
            socket.create_connection(("127.0.0.1", port.address.port), 20) as plain,
            context.wrap_socket(plain) as connection,
        ):
            return str((connection.getpeercert() or {})["serialNumber"])

    with enrolment() as port:
        before = serial(port)
        port.source.renew()  # only publishes: safe from this thread while nobody waits
        after = serial(port)
    assert before != after
    assert after == port.source.current().svid.serial


def test_a_port_that_is_taken_is_named(
    building: Authority, registry: Registry, gateway_id: SpiffeId
) -> None:
    async def start(port: int) -> None:
        source = EmbeddedSource(building, gateway_id)
        async with EnrolmentServer(building, registry, source) as server:
            await server.start("127.0.0.1", port)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(start(port))
    assert caught.group_contains(ConfigError, match=f"{port}")
