"""TLS at the door: who gets in, what the audit says of those who do not, and rotation."""

import asyncio
import datetime as dt
import logging
import resource
import ssl
from contextlib import suppress
from typing import Any

import pytest

from plantroom.broker import listener
from plantroom.broker.settings import BrokerLimits
from plantroom.wire.identity import Identity, Principal
from plantroom.wire.tls import (
    RotatingServerContext,
    check_anchor,
    client_context,
    load_svid,
    peer_id,
)
from tests.broker.harness import Live, Raw, running, until
from tests.fakes.issuer import BUILDING, CLOUD, HOUR, Issuer

GATEWAY = f"spiffe://{BUILDING}/agent/gateway"


@pytest.fixture(scope="module")
def building() -> Issuer:
    return Issuer(BUILDING)


@pytest.fixture(scope="module")
def cloud() -> Issuer:
    return Issuer(CLOUD)


def admit_with(identity: Identity) -> Any:
    def admit(connection: Any) -> Principal:
        found = peer_id(connection)
        check_anchor(connection, found, identity)
        return Principal(spiffe_id=found, serial="1", not_after_s=1 << 40)

    return admit


def as_client(issuer: Issuer, path: str, server: Issuer) -> ssl.SSLContext:
    identity = issuer.identity(path, issuer, server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=server.bundle().roots_der[0])

    load_svid(context, identity.svid)
    return context


async def open_tls(live: Live, context: ssl.SSLContext) -> Raw:
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port, ssl=context)
    return Raw(reader, writer)


async def is_refused(live: Live, context: ssl.SSLContext) -> bool:
    try:
        raw = await open_tls(live, context)
    except OSError:  # SSLError among them
        return True
    try:
        await raw.connect("x")
    except (OSError, asyncio.IncompleteReadError):
        return True
    finally:
        raw.close()
    return False


def audit_of(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.name.endswith("audit"))


def test_spiffe_id_of_the_certificate_is_the_principal(building: Issuer) -> None:
    async def scenario() -> None:
        identity = building.identity("agent/gateway")
        context = RotatingServerContext(identity).context
        async with running(admit=admit_with(identity), context=context) as live:
            client = building.identity("agent/hvac-001")
            server = building.svid(GATEWAY).spiffe_id
            raw = await open_tls(live, client_context(client, server_ids=[server]))
            assert await raw.connect("hvac-001") == (0x20, b"\0\0")
            (session,) = live.broker.sessions()
            assert session.spiffe_id == f"spiffe://{BUILDING}/agent/hvac-001"
            raw.close()

    asyncio.run(scenario())


def test_client_without_certificate_is_refused_and_named(
    building: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        identity = building.identity("agent/gateway")
        context = RotatingServerContext(identity).context
        async with running(admit=admit_with(identity), context=context) as live:
            naked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            naked.check_hostname = False
            naked.load_verify_locations(cadata=building.bundle().roots_der[0])
            assert await is_refused(live, naked)
            await until(lambda: "refused" in audit_of(caplog))

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in audit_of(caplog)


def test_expired_certificate_is_refused_and_named(
    building: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:

        identity = building.identity("agent/gateway")
        context = RotatingServerContext(identity).context
        async with running(admit=admit_with(identity), context=context) as live:
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname = False
            old.load_verify_locations(cadata=building.bundle().roots_der[0])
            svid = building.svid(
                f"spiffe://{BUILDING}/agent/old", starts=-2 * HOUR, ends=-dt.timedelta(minutes=1)
            )
            load_svid(old, svid)
            assert await is_refused(live, old)
            await until(lambda: "refused" in audit_of(caplog))

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert "certificate has expired" in audit_of(caplog)


def test_cloud_signed_building_id_is_refused_and_named(
    building: Issuer, cloud: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:

        identity = building.identity("agent/gateway", building, cloud)
        context = RotatingServerContext(identity).context
        async with running(admit=admit_with(identity), context=context) as live:
            forged = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            forged.check_hostname = False
            forged.load_verify_locations(cadata=building.bundle().roots_der[0])
            load_svid(forged, cloud.svid(f"spiffe://{BUILDING}/agent/hvac-001"))
            assert await is_refused(live, forged)
            assert not live.broker.sessions()

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert "wrong-trust-domain" in audit_of(caplog)


def test_plain_bytes_on_the_tls_port_hurt_nobody(
    building: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        identity = building.identity("agent/gateway")
        context = RotatingServerContext(identity).context
        async with running(admit=admit_with(identity), context=context) as live:
            good = await open_tls(live, as_client(building, "agent/hvac-001", building))
            assert (await good.connect("hvac-001"))[1] == b"\0\0"
            raw = await live.open()
            raw.send(b"GET / HTTP/1.1\r\n\r\n")
            with suppress(ConnectionError):
                await raw.reader.read()
            assert await good.silent()
            good.close()

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert 'reason="TLS: ' in audit_of(caplog)


def test_rotation_drops_no_connection_and_no_message(building: Issuer) -> None:
    async def scenario() -> None:
        identity = building.identity("agent/gateway")
        rotating = RotatingServerContext(identity)
        async with running(admit=admit_with(identity), context=rotating.context) as live:
            raw = await open_tls(live, as_client(building, "agent/hvac-001", building))
            await raw.connect("hvac-001")
            serials = set()
            for number in range(1, 51):
                rotating.rotate(building.identity("agent/gateway", revision=number + 1))
                raw.publish("a", packet_id=number)
                if number % 10 == 0:
                    other = await open_tls(live, as_client(building, f"agent/d{number}", building))
                    ssl_object = other.writer.get_extra_info("ssl_object")
                    serials.add(ssl_object.getpeercert()["serialNumber"])
                    other.close()
            frames = await raw.frames(50)
            assert [body for _, body in frames] == [n.to_bytes(2, "big") for n in range(1, 51)]
            assert len(serials) == 5
            raw.close()

    asyncio.run(scenario())


def test_connections_leave_descriptors_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running() as live:
            raws = [await live.client(str(number)) for number in range(3)]
            assert await (await live.open()).closed()
            for raw in raws:
                assert await raw.silent()

    monkeypatch.setattr(resource, "getrlimit", lambda _: (6, 6))
    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert "may open 6 files" in caplog.text
    assert "too many connections" in caplog.text


@pytest.mark.parametrize(
    ("files", "room"),
    [(1024, 512), (4096, 3096), (20_000, 10_000), (resource.RLIM_INFINITY, 10_000)],
)
def test_room_is_what_the_system_and_the_setting_allow(
    files: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert listener.room(10_000) == room


def test_connections_have_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running(limits=BrokerLimits(connections_max=1, sys_interval_s=0.0)) as live:
            first = await live.client("1")
            second = await live.open()
            assert await second.closed()
            assert await first.silent()

    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        asyncio.run(scenario())
    assert "too many connections" in audit_of(caplog)
