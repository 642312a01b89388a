"""One server-streaming gRPC call over one HTTP/2 connection: bytes in, messages out, no I/O.

The SPIFFE Workload API needs no more, and gRPC's own library costs 50 MB. Source: RFC 9113; gRPC
over HTTP/2.
"""

import struct
from urllib.parse import unquote

from plantroom.certs.hpack import HeaderDecoder
from plantroom.wire.errors import RefusedError, UnreachableError

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
_FRAME_BYTES_MAX = 16_384
_HEADER_BYTES_MAX = 64 * 1024
_STREAM = 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PUSH = 0, 1, 3, 4, 5
_PING, _GOAWAY, _WINDOW, _MORE_HEADERS = 6, 7, 8, 9
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_NO_PUSH, _INITIAL_WINDOW = (2, 0), (4, 1 << 20)
_STATUS = {3: "invalid-argument", 7: "permission-denied", 12: "unimplemented"}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one HTTP/2 frame (RFC 9113 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """Return a header field, literal and not indexed (RFC 7541 6.2.2); both below 127 bytes."""
    return b"\0" + b"".join(bytes((len(text),)) + text.encode() for text in (name, value))


class ServerStream:
    """A call whose request is one empty message; `receive` gives the answers' messages."""

    def __init__(self, path: str, metadata: dict[str, str]) -> None:
        self._path = path
        self._metadata = metadata
        self._data = b""
        self._message = b""
        self._headers = b""
        self._headers_end = False
        self._headers_of: int | None = None  # the stream whose header block is not whole yet
        self._decoder = HeaderDecoder()
        self.ended = False

    def begin(self) -> bytes:
        """Return what is sent first: preface, settings, and the whole request."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": self._path,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            **self._metadata,
        }
        settings = b"".join(struct.pack(">HI", *setting) for setting in (_NO_PUSH, _INITIAL_WINDOW))
        headers = b"".join(_literal(name, value) for name, value in fields.items())
        return b"".join((
            _PREFACE,
            frame(_SETTINGS, 0, 0, settings),
            frame(_WINDOW, 0, 0, struct.pack(">I", 1 << 20)),
            frame(_HEADERS, _END_HEADERS, _STREAM, headers),
            frame(_DATA, _END_STREAM, _STREAM, b"\0" * 5),
        ))  # fmt: skip

    def receive(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take what came; return whole messages, and what to send back.

        Raises:
            RefusedError: when the server ended the call with a status that is a refusal.
            UnreachableError: for any other end but a good one.
        """
        self._data += data
        messages: list[bytes] = []
        replies = []
        while len(self._data) >= 9:
            size = int.from_bytes(self._data[:3], "big")
            if size > _FRAME_BYTES_MAX:
                raise _broken(f"frame of {size} bytes")
            if len(self._data) < 9 + size:
                break
            kind, flags, stream = struct.unpack(">BBI", self._data[3:9])
            payload, self._data = self._data[9 : 9 + size], self._data[9 + size :]
            replies.append(self._frame(kind, flags, stream & 0x7FFF_FFFF, payload))
            messages += self._messages()
        return messages, b"".join(replies)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if (kind == _MORE_HEADERS) != (self._headers_of is not None):  # RFC 9113 6.10
            raise _broken("header block is torn")
        if kind == _DATA and stream == _STREAM:
            self._message += _unpadded(payload, flags)
            self.ended |= bool(flags & _END_STREAM)
            size = struct.pack(">I", len(payload))
            both = frame(_WINDOW, 0, 0, size) + frame(_WINDOW, 0, _STREAM, size)
            return both if payload else b""
        if kind in {_HEADERS, _MORE_HEADERS}:
            self._header(kind, flags, stream, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            return frame(_SETTINGS, _ACK, 0)
        elif kind == _PING and not flags & _ACK:
            return frame(_PING, _ACK, 0, payload)
        elif kind == _RESET and stream == _STREAM:
            raise _broken("stream was reset")
        elif kind == _GOAWAY:
            raise _broken("server goes away")
        elif kind == _PUSH:  # RFC 9113 8.4: we have said that we want none
            raise _broken("server pushes")
        return b""

    def _header(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS:
            self._headers_of = stream
            self._headers = _unpadded(payload, flags)[5 if flags & _PRIORITY else 0 :]
            self._headers_end = bool(flags & _END_STREAM)
        else:
            self._headers += payload
        if stream != self._headers_of:
            raise _broken("header block is torn")
        if len(self._headers) > _HEADER_BYTES_MAX:
            raise _broken("headers are too large")
        if not flags & _END_HEADERS:
            return
        self._headers_of = None
        fields = dict(self._decoder.decode(self._headers))  # every block: the table is shared
        if stream != _STREAM:
            return
        status = fields.get("grpc-status", "0" if not self._headers_end else "2")
        if status != "0":
            raise _ended(status, unquote(fields.get("grpc-message", "")))
        if fields.get(":status", "200") != "200":
            raise _broken(f"HTTP status {fields[':status'][:3]}")
        self.ended |= self._headers_end

    def _messages(self) -> list[bytes]:
        whole = []
        while len(self._message) >= 5:
            size = int.from_bytes(self._message[1:5], "big")
            if size > MESSAGE_BYTES_MAX or self._message[0]:
                raise _broken("message is too large, or compressed")
            if len(self._message) < 5 + size:
                break
            whole.append(self._message[5 : 5 + size])
            self._message = self._message[5 + size :]
        return whole


def _unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _broken("padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def _broken(what: str) -> UnreachableError:
    return UnreachableError(f"gRPC connection broke: {what}")


def _ended(status: str, message: str) -> RefusedError | UnreachableError:
    number = int(status) if status.isdecimal() and len(status) < 4 else 2
    if number in _STATUS:
        return RefusedError(f"gRPC status {number}: {message[:200]}", reason=_STATUS[number])
    return UnreachableError(f"gRPC status {number}: {message[:200]}")
