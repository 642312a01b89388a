"""An identity from one's own issuer, and a listener that rotates under live connections."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from plantroom.certs import own_svid
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource, issue_svid
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, TrustBundle
from plantroom.wire.spiffe import SpiffeId

Run = Callable[[Coroutine[Any, Any, Any]], Any]
loops = pytest.mark.parametrize(
    "run", [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
)


@loops
def test_it_renews_by_itself_near_half_life(
    run: Run, building: Authority, gateway_id: SpiffeId
) -> None:
    async def scenario() -> list[Identity]:
        source = EmbeddedSource(building, gateway_id, ttl_s=2, dns=("localhost",))
        seen = [source.current()]
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(10):
            while len(seen) < 3:
                seen.append(await source.changed(seen[-1].revision))
        running.cancel()
        return seen

    seen = run(scenario())
    assert [identity.revision for identity in seen] == [1, 2, 3]
    assert len({identity.svid.serial for identity in seen}) == 3
    assert len({identity.svid.key_pem for identity in seen}) == 3
    assert all(own_svid.key_belongs(identity.svid) for identity in seen)


def test_a_failed_renewal_keeps_the_old_svid_and_is_tried_again(
    building: Authority, gateway_id: SpiffeId, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    async def scenario() -> None:
        source = EmbeddedSource(building, gateway_id, clock=clock)
        before = source.current()
        failed = asyncio.Event()

        def refuse(*_: object, **__: object) -> bytes:
            failed.set()
            raise IdentityError("no", reason="test")

        with monkeypatch.context() as patch:
            patch.setattr(building, "issue", refuse)
            clock.offset_s = 2400
            running = asyncio.create_task(source.run())
            async with asyncio.timeout(10):
                await failed.wait()
        assert source.current() == before
        assert source.schedule.failures >= 1
        clock.offset_s = 2500
        async with asyncio.timeout(10):
            await source.changed(before.revision)
        assert source.schedule.failures == 0
        running.cancel()

    asyncio.run(scenario())


def test_bundles_of_others_come_and_never_go_back(
    building: Authority, cloud: Authority, gateway_id: SpiffeId
) -> None:
    source = EmbeddedSource(building, gateway_id)
    assert set(source.current().bundles) == {building.trust_domain}
    newer = TrustBundle(
        trust_domain=cloud.trust_domain, roots_der=cloud.bundle().roots_der, sequence=5
    )
    assert source.set_bundle(newer)
    revision = source.current().revision
    assert source.set_bundle(newer)
    assert not source.set_bundle(cloud.bundle())
    assert source.current().revision == revision
    assert source.current().bundles[cloud.trust_domain] == newer


def test_nobody_replaces_the_bundle_of_its_own_trust_domain(
    building: Authority, cloud: Authority, gateway_id: SpiffeId
) -> None:
    stolen = TrustBundle(
        trust_domain=building.trust_domain, roots_der=cloud.bundle().roots_der, sequence=99
    )
    source = EmbeddedSource(building, gateway_id, bundles={building.trust_domain: stolen})
    assert not source.set_bundle(stolen)
    assert source.current().bundles[building.trust_domain] == building.bundle()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


async def connect(
    port: int, shown: Identity, server_id: SpiffeId
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    context = tls.client_context(shown, server_ids=[server_id])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=""
    )
    serial = writer.get_extra_info("peercert")["serialNumber"]
    writer.write(b"hello")
    assert await asyncio.wait_for(reader.readexactly(5), 20) == b"hello"
    return reader, writer, serial


@loops
def test_live_connections_survive_fifty_rotations_of_the_listener(
    run: Run, building: Authority, gateway_id: SpiffeId, sensor_id: SpiffeId
) -> None:
    async def scenario() -> None:
        source = EmbeddedSource(building, gateway_id)
        rotating = tls.RotatingServerContext(source.current())
        sensor = Identity(
            svid=issue_svid(building, sensor_id, ttl_s=600),
            bundles={building.trust_domain: building.bundle()},
            revision=1,
        )
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=rotating.context)
        port = server.sockets[0].getsockname()[1]
        reader, writer, first = await connect(port, sensor, gateway_id)
        serials = {first}
        for number in range(50):
            rotating.rotate(source.renew())
            writer.write(b"%05d" % number)
            assert await asyncio.wait_for(reader.readexactly(5), 20) == b"%05d" % number
            if number % 10 == 9:
                _, other, serial = await connect(port, sensor, gateway_id)
                assert serial == source.current().svid.serial
                serials.add(serial)
                other.close()
                await other.wait_closed()
        assert len(serials) == 6
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(scenario())


@loops
def test_no_ticket_lets_a_session_be_taken_up_again(
    run: Run, building: Authority, gateway_id: SpiffeId, sensor_id: SpiffeId
) -> None:
    """The client offers its session again, to the same context and to a rotated one."""

    async def scenario() -> list[bool]:
        source = EmbeddedSource(building, gateway_id)
        rotating = tls.RotatingServerContext(source.current())
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=rotating.context)
        port = server.sockets[0].getsockname()[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=building.bundle().roots_der[0])
        tls.load_svid(context, issue_svid(building, sensor_id, ttl_s=600))
        first = await asyncio.to_thread(talk, context, port, None)
        again = await asyncio.to_thread(talk, context, port, first[0])
        rotating.rotate(source.renew())
        rotated = await asyncio.to_thread(talk, context, port, first[0])
        server.close()
        await server.wait_closed()
        ticket = first[0] is not None and first[0].has_ticket
        return [ticket, first[1], again[1], rotated[1]]

    assert run(scenario()) == [False, False, False, False]


def talk(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool]:
    import socket

    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, session=session) as connection,
    ):
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"  # a ticket would have come before this
        return connection.session, bool(connection.session_reused)
