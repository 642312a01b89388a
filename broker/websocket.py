"""MQTT over WebSocket: what stands between a socket and its `Connection`.

To the socket it is the protocol, to the connection the transport, which so need not know of it. The
rules of WebSocket (RFC 6455) are those of the library `websockets`, without its input and output.
MQTT packets and frames have nothing to do with each other [MQTT-6.0.0-2]: what a frame brings goes
on at once, a message need not be complete.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from plantroom.broker.codes import Code
from plantroom.broker.connection import Connection

_GET = ord("G")  # what every request that may come starts with
# [MQTT-6.0.0-4]
SUBPROTOCOL = Subprotocol("mqtt")
_PIECE_BYTES = 4096  # read on only when this much is found good
_HOLLOW_FRAMES_MAX = 100  # of one read: pings, pongs, and frames of no byte cost, and bring nothing


def allowed(origins: Sequence[str]) -> list[Origin | None] | None:
    """Return the origins as the library wants them: None for none given, which programs do."""
    if "*" in origins:
        return None
    return [None, *(Origin(origin) for origin in origins)]


class WebSocket(asyncio.Protocol):
    """One accepted socket."""

    def __init__(
        self, connection: Connection, origins: Sequence[str], frame_bytes_max: int
    ) -> None:
        self._connection = connection
        self._transport: Any = None
        self._hollow_frames = 0
        self._protocol = ServerProtocol(
            origins=allowed(origins), subprotocols=[SUBPROTOCOL], max_size=frame_bytes_max
        )

    # -- the socket's calls

    def connection_made(self, transport: Any) -> None:
        """TLS is done."""
        self._transport = transport
        self._connection.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that it is gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client does not read."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client reads again."""
        self._connection.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Take what has come apart, pass on what is MQTT, and answer what is not."""
        if not self._connection.open:
            return
        connecting = self._protocol.state is State.CONNECTING
        if connecting and not self._protocol.reader.buffer and data[0] != _GET:
            self._connection.fail(Code.PROTOCOL_ERROR, "WebSocket: no HTTP request")
            return
        self._hollow_frames = 0
        for at in range(0, len(data), _PIECE_BYTES):
            if self._connection.open:
                self._take(data[at : at + _PIECE_BYTES])

    def _take(self, piece: bytes) -> None:
        self._protocol.receive_data(piece)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()
        fault = self._protocol.handshake_exc or self._protocol.parser_exc
        if fault is not None and self._connection.open:
            self._connection.engine.counters.protocol_errors += 1
            self._connection.fail(Code.PROTOCOL_ERROR, f"WebSocket: {fault}")
        elif self._connection.open:
            self._connection.incomplete(len(self._protocol.reader.buffer))

    # -- WebSocket

    def _open(self, request: Request) -> None:
        """Answer the handshake: `mqtt` has to be asked for, from a page that may."""
        self._protocol.send_response(self._protocol.accept(request))

    def _frame(self, frame: Frame) -> None:
        connection = self._connection
        if frame.opcode is Opcode.TEXT:  # [MQTT-6.0.0-1]
            self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT is binary")
            connection.fail(Code.PROTOCOL_ERROR, "WebSocket: a text frame")
        elif frame.data and frame.opcode in {Opcode.BINARY, Opcode.CONT}:
            connection.data_received(bytes(frame.data))
        else:
            self._hollow_frames += 1
            if self._hollow_frames > _HOLLOW_FRAMES_MAX and connection.open:
                connection.engine.counters.protocol_errors += 1
                connection.fail(Code.PROTOCOL_ERROR, "WebSocket: a flood of frames without MQTT")

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the library's mark for the end
                self._transport.close()

    # -- the connection's calls

    def get_extra_info(self, name: str) -> Any:
        """Return what is known of the socket."""
        return self._transport.get_extra_info(name)

    def is_closing(self) -> bool:
        """Say whether nothing can be sent any more."""
        return bool(self._transport.is_closing())

    def can_write_eof(self) -> bool:
        """Say no: a WebSocket is closed as a whole."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return how much the client has not read."""
        return int(self._transport.get_write_buffer_size())

    def pause_reading(self) -> None:
        """Read no further."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes, as one frame [MQTT-6.0.0-1]."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(data)
            self._flush()

    def close(self) -> None:
        """Say goodbye, then close."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
