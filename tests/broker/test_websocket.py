"""MQTT over WebSocket, spoken by the library `websockets` and by bytes that break its rules."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from plantroom.broker.settings import BrokerLimits
from plantroom.wire.tls import RotatingServerContext, client_context
from tests.broker.harness import (
    TIMEOUT_S,
    Live,
    connect,
    packet,
    puback,
    publish,
    running,
    subscribe,
    ticked,
    until,
)
from tests.broker.test_listener import admit_with
from tests.fakes.issuer import BUILDING, Issuer

MQTT = [Subprotocol("mqtt")]
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"


@asynccontextmanager
async def listening(
    origins: tuple[str, ...] = (), **parts: Any
) -> AsyncIterator[tuple[Live, str, int]]:
    async with running(**parts) as live:
        port = await live.broker.listen("127.0.0.1", 0, None, websocket=True, origins=origins)
        yield live, f"ws://127.0.0.1:{port}/mqtt", port


async def receive(socket: ClientConnection, size: int) -> bytes:
    """Read binary frames until so many bytes are there."""
    data = b""
    async with asyncio.timeout(TIMEOUT_S):
        while len(data) < size:
            frame = await socket.recv()
            assert isinstance(frame, bytes)
            data += frame
    return data


async def closing(socket: ClientConnection) -> int:
    """Wait until the broker closes; return its close code."""
    async with asyncio.timeout(TIMEOUT_S):
        await socket.wait_closed()
    assert socket.close_code is not None
    return socket.close_code


def test_clients_of_both_listeners_meet() -> None:
    async def scenario() -> None:
        async with listening() as (live, url, _), dial(url, subprotocols=MQTT) as socket:
            assert socket.subprotocol == "mqtt"
            await socket.send(connect("web"))
            assert await receive(socket, 4) == b"\x20\2\0\0"
            await socket.send(subscribe(("a/#", 1)))
            assert await receive(socket, 5) == b"\x90\3\0\1\1"
            plain = await live.client("plain")
            plain.publish("a/b", b"hello")
            await plain.acknowledged()
            assert await receive(socket, 14) == publish("a/b", b"hello")
            await socket.send(puback(1))
            await plain.subscribe(("c", 0))
            await socket.send(publish("c", b"back", packet_id=7))
            assert await receive(socket, 4) == puback(7)
            assert (await plain.frame())[1] == b"\0\1cback"
            await socket.send(b"\xe0\x00")
            assert await closing(socket) == 1000

    asyncio.run(scenario())


def test_wss_has_the_certificate_as_principal() -> None:
    building = Issuer(BUILDING)
    identity = building.identity("agent/gateway")

    async def scenario() -> None:
        async with running(admit=admit_with(identity), context=None) as live:
            context = RotatingServerContext(identity).context
            port = await live.broker.listen("127.0.0.1", 0, context, websocket=True)
            client = building.identity("agent/hvac-001")
            server = building.svid(f"spiffe://{BUILDING}/agent/gateway").spiffe_id
            tls = client_context(client, server_ids=[server])
            url = f"wss://127.0.0.1:{port}"
            async with dial(url, subprotocols=MQTT, ssl=tls) as socket:
                await socket.send(connect("hvac-001"))
                assert await receive(socket, 4) == b"\x20\2\0\0"
                (session,) = live.broker.sessions()
                assert session.spiffe_id == f"spiffe://{BUILDING}/agent/hvac-001"

    asyncio.run(scenario())


def test_packets_need_not_respect_frames() -> None:
    # [MQTT-6.0.0-2]
    async def scenario() -> None:
        async with listening() as (_, url, _), dial(url, subprotocols=MQTT) as socket:
            data = connect("web") + subscribe(("a", 1)) + publish("a", b"x" * 300, packet_id=5)
            await socket.send(data + PINGREQ)  # coalesced
            answers = await receive(socket, 4 + 5 + 2 + 4 + 308)
            for part in (b"\x20\2\0\0", b"\x90\3\0\1\1", puback(5), PINGRESP, b"x" * 300):
                assert part in answers
            for number in range(0, len(data := publish("b", b"y" * 50, packet_id=6)), 7):
                await socket.send(data[number : number + 7])  # one packet in many messages
            assert await receive(socket, 4) == puback(6)
            await socket.send([PINGREQ[:1], b"", PINGREQ[1:], publish("b", packet_id=8)])
            assert await receive(socket, 6) == PINGRESP + puback(8)  # a message of many frames

    asyncio.run(scenario())


def test_websocket_ping_is_answered_and_is_no_packet() -> None:
    async def scenario() -> None:
        async with listening() as (live, url, _), dial(url, subprotocols=MQTT) as socket:
            await socket.send(connect("web", keepalive_s=10))
            await receive(socket, 4)
            live.clock.jump(10)
            await ticked(live)
            async with asyncio.timeout(TIMEOUT_S):
                await (await socket.ping())
            live.clock.jump(6)  # 16 s after the last packet, 6 s after the ping
            assert await closing(socket) == 1000  # [MQTT-3.1.2-22]

    asyncio.run(scenario())


def test_text_frame_ends_the_connection_and_its_will_is_published() -> None:
    async def scenario() -> None:
        async with listening() as (live, url, _), dial(url, subprotocols=MQTT) as socket:
            watcher = await live.client("watcher")
            await watcher.subscribe(("will", 0))
            await socket.send(connect("web", will=("will", b"gone", 0, False)))
            await receive(socket, 4)
            await socket.send("text")  # [MQTT-6.0.0-1]
            assert await closing(socket) == 1003
            assert (await watcher.frame())[1] == b"\0\4willgone"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("offered", "granted"),
    [(["mqtt"], True), (["mqttv3.1", "mqtt"], True), (["chat"], False), ([], False)],
)
def test_subprotocol_mqtt_is_needed(offered: list[str], granted: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with listening() as (live, url, _):
            asked = [Subprotocol(name) for name in offered] or None
            if granted:
                async with dial(url, subprotocols=asked) as socket:
                    assert socket.subprotocol == "mqtt"  # [MQTT-6.0.0-4]
                return
            with pytest.raises(InvalidStatus) as caught:
                await dial(url, subprotocols=asked)
            assert caught.value.response.status_code == 400
            await until(lambda: not live.broker._engine.connections, "it to be gone")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("origins", "origin", "granted"),
    [
        ((), None, True),
        ((), "https://evil.example", False),
        (("https://plant.example",), "https://plant.example", True),
        (("https://plant.example",), "https://plant.example:8443", False),
        (("https://plant.example",), None, True),
        (("*",), "https://evil.example", True),
    ],
)
def test_only_pages_that_may_connect(
    origins: tuple[str, ...],
    origin: str | None,
    granted: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with listening(origins) as (live, url, _):
            headers = {"Origin": origin} if origin else {}
            if granted:
                async with dial(url, subprotocols=MQTT, additional_headers=headers) as socket:
                    await socket.send(connect("web"))
                    assert await receive(socket, 4) == b"\x20\2\0\0"
                return
            with pytest.raises(InvalidStatus) as caught:
                await dial(url, subprotocols=MQTT, additional_headers=headers)
            assert caught.value.response.status_code == 403
            await until(lambda: not live.broker._engine.connections, "it to be gone")

    asyncio.run(scenario())
    assert ("event=refused" in caplog.text) is not granted


LIMITS = BrokerLimits(sys_interval_s=0.0, packet_bytes_max=1024, connect_bytes_max=256)


def test_sizes_are_limited_in_mqtt_and_in_websocket() -> None:
    async def scenario() -> None:
        async with listening(limits=LIMITS) as (_, url, _):
            async with dial(url, subprotocols=MQTT) as socket:
                await socket.send(connect("web", version=5))
                await socket.recv()
                await socket.send(publish("a", bytes(1500), version=5))
                data = await receive(socket, 3)
                assert (data[0], data[2]) == (0xE0, 0x95)
            async with dial(url, subprotocols=MQTT) as socket:
                await socket.send(bytes(3000))
                assert await closing(socket) == 1009

    asyncio.run(scenario())


def masked(opcode: int, data: bytes, *, length: int | None = None) -> bytes:
    """A client's frame with mask 0."""
    size = len(data) if length is None else length
    return bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big") + bytes(4) + data


REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)


@pytest.mark.parametrize(
    "data",
    [
        connect("c"),  # MQTT without WebSocket
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"\0" * 100 + b"\r\n",
        REQUEST + b"\x82\x01x",  # not masked
        REQUEST + masked(3, b""),  # reserved opcode
        REQUEST + masked(0, b"x"),  # continues nothing
        REQUEST + masked(8, b"\0"),  # half a close code
        REQUEST + masked(2, packet(0x00, b"")),  # no MQTT
    ],
)
def test_whatever_breaks_the_rules_is_closed(data: bytes) -> None:
    async def scenario() -> None:
        async with listening() as (live, _, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            async with asyncio.timeout(TIMEOUT_S):
                await reader.read()
            writer.close()
            await until(lambda: not live.broker._engine.connections, "it to be gone")
            await live.client("service goes on")

    asyncio.run(scenario())


def small(opcode: int, *, is_last: bool = True) -> bytes:
    """An empty frame of a client, with mask 0."""
    return bytes((0x80 * is_last | opcode, 0x80)) + bytes(4)


@pytest.mark.parametrize(
    ("start", "frame"),
    [(b"", small(9)), (b"", small(10)), (small(2, is_last=False), small(0, is_last=False))],
)
def test_flood_of_frames_that_bring_nothing_is_ended(start: bytes, frame: bytes) -> None:
    async def scenario() -> None:
        async with listening() as (live, _, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(REQUEST + masked(2, connect("web")) + start + 20_000 * frame)
                with suppress(ConnectionError):
                    while await reader.read(65_536):
                        pass
            writer.close()
            await until(lambda: not live.broker._engine.connections, "it to be gone")
            assert live.broker._engine.counters.protocol_errors == 1
            await live.client("service goes on")

    asyncio.run(scenario())


def test_pings_by_the_dozen_are_answered() -> None:
    async def scenario() -> None:
        async with listening() as (_, url, _), dial(url, subprotocols=MQTT) as socket:
            async with asyncio.timeout(TIMEOUT_S):
                for answer in [await socket.ping() for _ in range(90)]:
                    await answer
            await socket.send(connect("web"))
            await receive(socket, 4)

    asyncio.run(scenario())


@pytest.mark.parametrize("start", [REQUEST[:20], REQUEST + masked(2, b"\x10", length=500)])
def test_handshake_or_frame_that_trickles_is_cut_off(start: bytes) -> None:
    async def scenario() -> None:
        async with listening() as (live, _, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(start)
            await until(lambda: live.broker._engine.connections, "it to be there")
            live.clock.jump(11)
            async with asyncio.timeout(TIMEOUT_S):
                await reader.read()
            writer.close()

    asyncio.run(scenario())


def test_frame_that_trickles_after_connect_is_cut_off_and_counts_as_partial() -> None:
    async def scenario() -> None:
        limits = dataclasses.replace(LIMITS, packet_timeout_s=5.0)
        async with listening(limits=limits) as (live, _, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST + masked(2, connect("c")))
            writer.write(masked(2, publish("a", bytes(300)), length=900))
            connections = live.broker._engine.connections
            await until(lambda: [c for c in connections if c.partial_bytes > 300], "half a frame")
            live.clock.jump(6)
            async with asyncio.timeout(TIMEOUT_S):
                await reader.read()
            writer.close()

    asyncio.run(scenario())


def test_slow_reader_is_paused_and_goes_on() -> None:
    async def scenario() -> None:
        async with listening() as (live, url, _), dial(url, subprotocols=MQTT) as socket:
            await socket.send(connect("web", clean=False))
            await receive(socket, 4)
            await socket.send(subscribe(("a", 1)))
            await receive(socket, 5)
            writer = await live.client("w")
            for number in range(1, 41):
                writer.publish("a", bytes(100_000), packet_id=number)
                await writer.acknowledged(number)
            data = await receive(socket, 40 * 100_009)
            assert len(data) == 40 * 100_009
            await socket.send(b"".join(puback(number) for number in range(1, 41)) + PINGREQ)
            assert await receive(socket, 2) == PINGRESP

    asyncio.run(scenario())
