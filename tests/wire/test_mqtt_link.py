"""The link against a server that says exactly what each test wants said, byte by byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from plantroom.wire.errors import IdentityError, RefusedError, UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, DISCONNECT = 1, 3, 4, 8, 14
CONNACK_OK = b"\x20\x03\x00\x00\x00"
WAIT_S = 30.0


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def packet(self, kind: int) -> tuple[int, bytes]:
        """Read one packet, which has to be of this kind: its flags and its body."""
        head = (await self._reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        body = await self._reader.readexactly(size)
        assert head >> 4 == kind, f"packet {head >> 4}, {kind} was due"
        return head & 0x0F, body

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def closed(self) -> bool:
        """Wait until the client has closed without another packet."""
        return await self._reader.read(1) == b""


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[int]:
    """Run the script for one connection and wait for its end; its failure fails the test."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Peer(reader, writer))
        except (AssertionError, asyncio.IncompleteReadError) as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(WAIT_S):
        yield server.sockets[0].getsockname()[1]
        await done


def link(port: int, **options: object) -> MqttLink:
    return MqttLink("127.0.0.1", port, "someone", None, timeout_s=WAIT_S, **options)  # type: ignore[arg-type]


async def collect(made: MqttLink, into: list[bytes]) -> None:
    async for message in made.messages():
        into.append(message.payload)  # noqa: PERF401 -- kept although the end raises


def publish_packet(
    topic: bytes, payload: bytes, *, packet_id: int, properties: bytes = b""
) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic
    if packet_id:
        body += packet_id.to_bytes(2, "big")
    body += bytes([len(properties)]) + properties + payload
    return bytes([0x32 if packet_id else 0x30, len(body)]) + body


async def accept(peer: Peer) -> bytes:
    _, connect = await peer.packet(CONNECT)
    await peer.say(CONNACK_OK)
    return connect


def test_puback_reason_code_reaches_the_caller() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        for code in (0x00, 0x10, 0x87, 0x97):
            _, body = await peer.packet(PUBLISH)
            size = int.from_bytes(body[:2], "big")
            await peer.say(b"\x40\x04" + body[2 + size : 4 + size] + bytes([code, 0]))
        await peer.packet(DISCONNECT)

    async def main() -> list[int]:
        async with serving(script) as port, link(port) as made:
            return [await made.publish(Message(topic="t", payload=b"x")) for _ in range(4)]

    assert asyncio.run(main()) == [0x00, 0x10, 0x87, 0x97]


def test_mqtt_311_has_one_answer_only() -> None:
    async def script(peer: Peer) -> None:
        _, connect = await peer.packet(CONNECT)
        assert connect[:7] == b"\x00\x04MQTT\x04"
        await peer.say(b"\x20\x02\x00\x00")
        _, body = await peer.packet(PUBLISH)
        assert body == b"\x00\x01t\x00\x01x", "no properties on the wire"
        await peer.say(b"\x40\x02\x00\x01")
        await peer.packet(DISCONNECT)

    async def main() -> int:
        async with serving(script) as port, link(port, version=4) as made:
            return await made.publish(Message(topic="t", payload=b"x", content_type="dropped"))

    assert asyncio.run(main()) == 0


def test_properties_go_out_and_come_back() -> None:
    sent = Message(
        topic="t",
        payload=b"x",
        content_type="application/cbor",
        response_topic="v1/a/reply/b/1",
        correlation=b"\x00\x01",
        expiry_s=30,
        user={"range": "1/2/3", "other": "ä"},
    )

    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.packet(SUBSCRIBE)
        await peer.say(b"\x90\x04\x00\x01\x00\x01")
        _, body = await peer.packet(PUBLISH)
        await peer.say(b"\x40\x02" + body[3:5])
        await peer.say(bytes([0x32, len(body)]) + body)  # the same message back
        await peer.packet(PUBACK)
        await peer.packet(DISCONNECT)

    async def main() -> Message:
        async with serving(script) as port, link(port) as made:
            await made.subscribe("t")
            await made.publish(sent)
            messages = made.messages()
            received = await anext(messages)
            waiting = asyncio.ensure_future(anext(messages))  # asks for the next: acknowledges
            await asyncio.wait([waiting], timeout=0.05)
            waiting.cancel()
            return received

    assert asyncio.run(main()) == sent


def test_message_is_acknowledged_only_when_its_consumer_comes_back() -> None:
    acknowledged = asyncio.Event()

    async def script(peer: Peer) -> None:
        connect = await accept(peer)
        assert b"\x21\x00\x02" in connect, "Receive Maximum 2"  # MQTT 5, 3.1.2.11.3
        await peer.say(publish_packet(b"t", b"one", packet_id=7))
        _, body = await peer.packet(PUBACK)
        assert body[:2] == b"\x00\x07"
        acknowledged.set()
        await peer.packet(DISCONNECT)

    async def main() -> None:
        async with serving(script) as port, link(port, incoming_max=2) as made:
            messages = made.messages()
            assert (await anext(messages)).payload == b"one"
            await asyncio.sleep(0)
            assert not acknowledged.is_set()
            waiting = asyncio.ensure_future(anext(messages))
            await acknowledged.wait()
            waiting.cancel()

    asyncio.run(main())


def test_qos_0_beyond_the_bound_is_dropped_and_counted_and_qos_1_beyond_it_ends_the_link() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.packet(SUBSCRIBE)
        for payload in (b"a", b"b", b"c"):
            await peer.say(publish_packet(b"t", payload, packet_id=0))
        await peer.say(publish_packet(b"t", b"too much", packet_id=1))
        assert await peer.closed()

    async def main() -> tuple[list[bytes], int, str]:
        got: list[bytes] = []
        async with serving(script) as port, link(port, incoming_max=2) as made:
            with pytest.raises(UnreachableError) as caught:
                await made.subscribe("waits for an answer that does not come")
            with pytest.raises(UnreachableError):
                await collect(made, got)
            return got, made.dropped, str(caught.value)

    got, dropped, text = asyncio.run(main())
    assert (got, dropped) == ([b"a", b"b"], 1)
    assert "Receive Maximum" in text


def test_what_had_arrived_is_given_before_the_loss_is_told() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.say(publish_packet(b"t", b"last words", packet_id=0))

    async def main() -> list[bytes]:
        got: list[bytes] = []
        async with serving(script) as port, link(port) as made:
            with pytest.raises(UnreachableError, match="connection lost"):
                await collect(made, got)
            with pytest.raises(UnreachableError):  # and it stays told
                await anext(made.messages())
        return got

    assert asyncio.run(main()) == [b"last words"]


def test_publish_fails_at_once_when_the_connection_ends_without_an_answer() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.packet(PUBLISH)

    async def main() -> None:
        async with serving(script) as port, link(port) as made:
            with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}"):
                await made.publish(Message(topic="t", payload=b"x"))
            with pytest.raises(UnreachableError):  # and after the end as well
                await made.publish(Message(topic="t", payload=b"x"))

    asyncio.run(main())


def test_silent_server_is_a_timeout_not_a_hang() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.packet(PUBLISH)
        await peer.packet(DISCONNECT)

    async def main() -> None:
        async with serving(script) as port, link(port) as made:
            made._timeout_s = 0.1  # to connect may take longer
            with pytest.raises(UnreachableError, match=r"no PUBACK in 0\.1 s"):
                await made.publish(Message(topic="t", payload=b"x"))

    asyncio.run(main())


def test_server_disconnect_reason_is_in_the_error() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.say(b"\xe0\x0d\x8e\x0b\x1f\x00\x08replaced")

    async def main() -> None:
        async with serving(script) as port, link(port) as made:
            with pytest.raises(UnreachableError, match="replaced"):
                await anext(made.messages())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("connack", "kind", "text"),
    [
        (b"\x20\x03\x00\x87\x00", RefusedError, "Not authorized"),
        (b"\x20\x0b\x00\x87\x08\x1f\x00\x05d-123", RefusedError, "d-123"),
        (b"\x20\x03\x00\x88\x00", UnreachableError, "Server unavailable"),
        (b"", UnreachableError, "cannot connect"),
    ],
)
def test_refusals_and_closes_before_connack(
    connack: bytes, kind: type[Exception], text: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.packet(CONNECT)
        await peer.say(connack)

    async def main() -> None:
        async with serving(script) as port:
            with pytest.raises(kind, match=text):
                await link(port).__aenter__()

    asyncio.run(main())


def test_refused_subscription_names_filter_and_reason() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.packet(SUBSCRIBE)
        await peer.say(b"\x90\x0c\x00\x01\x08\x1f\x00\x05d-456\x87")
        await peer.packet(DISCONNECT)

    async def main() -> RefusedError:
        async with serving(script) as port, link(port) as made:
            with pytest.raises(RefusedError) as caught:
                await made.subscribe("v1/#")
            return caught.value

    error = asyncio.run(main())
    assert (error.reason, error.where, error.what) == ("not-authorized", "v1/#", "d-456")


def test_nobody_listens() -> None:
    async def main() -> None:
        with pytest.raises(UnreachableError, match=r"cannot connect.*refused"):
            await link(1).__aenter__()

    asyncio.run(main())


def test_will_is_sent_with_its_properties() -> None:
    async def script(peer: Peer) -> None:
        connect = await accept(peer)
        assert connect[7] & 0b0010_1100 == 0b0010_1100, "will, QoS 1, retain"
        assert b"\x00\x01w" in connect
        assert b"gone" in connect
        assert b"\x03\x00\x03cb0" in connect, "content type"
        await peer.packet(DISCONNECT)

    async def main() -> None:
        will = Message(topic="w", payload=b"gone", retain=True, content_type="cb0")
        async with serving(script) as port, link(port, will=will):
            pass

    asyncio.run(main())


def test_cancelled_connect_leaves_no_socket_behind() -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.packet(CONNECT)
        asked.set()
        assert await peer.closed()

    async def main() -> None:
        async with serving(script) as port:
            opening = asyncio.ensure_future(link(port).__aenter__())
            await asked.wait()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening

    asyncio.run(main())


def test_identity_error_of_the_peer_check_passes_unchanged() -> None:
    class Wrong(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
            self.close()
            raise IdentityError("server is someone else", reason="wrong-peer")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = Wrong

    async def script(peer: Peer) -> None:
        assert await peer.closed()

    async def main() -> None:
        async with serving(script) as port:
            with pytest.raises(IdentityError, match="someone else"):
                await MqttLink("127.0.0.1", port, "c", context).__aenter__()

    asyncio.run(main())
