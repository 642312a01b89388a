"""One caller's HTTP/2 connection to the Workload API: its gRPC calls, each a stream of messages.

Source: RFC 9113 (by `h2`); gRPC over HTTP/2; SPIFFE Workload Endpoint 4 to 6; SPIFFE Workload API.
"""

import asyncio
import logging
import re
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from plantroom.certs.workload_messages import BUNDLES_METHOD, SECURITY_HEADER, SVIDS_METHOD
from plantroom.certs.workload_offers import Offers
from plantroom.wire.errors import PlantroomError
from plantroom.wire.unix_socket import Peer

LOG = logging.getLogger("plantroom.certs.workload")
INVALID_ARGUMENT, DEADLINE_EXCEEDED, PERMISSION_DENIED = 3, 4, 7
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 8, 12, 13
_JWT_METHODS = frozenset(
    f"/SpiffeWorkloadAPI/{name}" for name in ("FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID")
)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_READ_BYTES_MAX = 64 * 1024
_CONTENT_TYPE = (b"content-type", b"application/grpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What one connection may ask for."""

    streams_max: int = 32
    calls_max: int = 10_000
    request_bytes_max: int = 16 * 1024
    first_call_s_max: float = 10.0
    idle_s_max: float = 600.0
    send_s_max: float = 30.0


@dataclass(slots=True)
class _Call:
    """A request that is arriving; `body` is bounded."""

    method: str
    timeout_s: float | None
    body: bytearray


class WorkloadConnection:
    """Answers one connection until it ends; `refused` is told each status that is no answer."""

    def __init__(  # noqa: PLR0913 -- both ends, what is given, and how much
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
        offers: Offers,
        *,
        limits: CallLimits,
        refused: Callable[[int, Peer], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._offers = offers
        self._limits = limits
        self._refused = refused
        self._http = H2Connection(H2Configuration(client_side=False))
        self._http.local_settings = _settings(limits)
        self._waiting: dict[int, _Call] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._calls = 0
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve until the caller closes, breaks a rule, or is idle for too long."""
        self._http.initiate_connection()
        async with asyncio.TaskGroup() as tasks:
            try:
                await self._flush()
                while await self._step(tasks):
                    pass
            except H2Error as error:
                LOG.debug("no HTTP/2 from pid=%d: %s", self._peer.pid, error)
                with suppress(OSError, TimeoutError):
                    await self._flush()  # h2 has said GOAWAY and why
            except (OSError, TimeoutError) as error:
                LOG.debug("pid=%d has gone: %s", self._peer.pid, error or "idle")
            finally:
                for task in self._running.values():
                    task.cancel()

    async def _step(self, tasks: asyncio.TaskGroup) -> bool:
        """Take in what the caller sends next; False at the end."""
        limits = self._limits
        try:
            async with asyncio.timeout(
                limits.idle_s_max if self._calls else limits.first_call_s_max
            ):
                data = await self._reader.read(_READ_BYTES_MAX)
        except TimeoutError:
            if self._running:
                return True
            raise
        if not data:
            return False
        for event in self._http.receive_data(data):
            if isinstance(event, events.ConnectionTerminated):
                return False
            self._take(event, tasks)
        await self._flush()
        if self._calls >= limits.calls_max:
            self._http.close_connection()
            await self._flush()
            return False
        return True

    def _take(self, event: events.Event, tasks: asyncio.TaskGroup) -> None:
        if isinstance(event, events.RequestReceived):
            self._calls += 1
            self._begin(event.stream_id, dict(event.headers))
        elif isinstance(event, events.DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._add(event.stream_id, event.data)
        elif isinstance(event, events.StreamEnded):
            self._start(event.stream_id, tasks)
        elif isinstance(event, events.StreamReset):
            self._waiting.pop(event.stream_id, None)
            task = self._running.pop(event.stream_id, None)
            if task is not None:
                task.cancel()
        elif isinstance(event, events.WindowUpdated | events.RemoteSettingsChanged):
            self._room.set()

    def _begin(self, stream: int, headers: Mapping[Any, Any]) -> None:
        """Check a request's headers; what is wrong with them is answered at once."""
        path = headers.get(b":path", b"").decode("ascii", "replace")
        name, value = (text.encode() for text in SECURITY_HEADER)
        if headers.get(b":method") != b"POST":
            self._end_http(stream, b"405")
        elif not headers.get(b"content-type", b"").startswith(_CONTENT_TYPE[1]):
            self._end_http(stream, b"415")
        elif headers.get(name) != value:  # SPIFFE Workload Endpoint 6.3.1
            self._end(stream, INVALID_ARGUMENT, "security header missing from request")
        elif path in _JWT_METHODS:
            self._end(stream, UNIMPLEMENTED, "JWT-SVIDs are not issued here")
        elif path not in {SVIDS_METHOD, BUNDLES_METHOD}:
            self._end(stream, UNIMPLEMENTED, "no such method")
        else:
            timeout_s = _seconds(headers.get(b"grpc-timeout"))
            self._waiting[stream] = _Call(path, timeout_s, bytearray())

    def _add(self, stream: int, data: bytes | None) -> None:
        call = self._waiting.get(stream)
        if call is None:
            return  # it has been answered already
        call.body += data or b""
        if len(call.body) > self._limits.request_bytes_max:
            del self._waiting[stream]
            self._end(stream, RESOURCE_EXHAUSTED, "request is too large")

    def _start(self, stream: int, tasks: asyncio.TaskGroup) -> None:
        call = self._waiting.pop(stream, None)
        if call is None:
            return
        if call.body[:1] == b"\1":
            self._end(stream, UNIMPLEMENTED, "requests are not decompressed here")
        elif len(call.body) < 5 or len(call.body) != 5 + int.from_bytes(call.body[1:5], "big"):
            self._end(stream, INTERNAL, "request is not one message")
        else:
            answering = self._answer(stream, call)
            self._running[stream] = tasks.create_task(answering, name="certs.workload-call")

    async def _answer(self, stream: int, call: _Call) -> None:
        """Stream answers until the caller has had enough; every way but that has its status."""
        begun = False
        ask = self._offers.svids if call.method == SVIDS_METHOD else self._offers.bundles

        def begin() -> None:
            nonlocal begun
            if not begun:
                self._http.send_headers(stream, [(b":status", b"200"), _CONTENT_TYPE])
            begun = True

        try:
            async with asyncio.timeout(call.timeout_s):
                await self._push(stream, ask, begin)
            status = PERMISSION_DENIED, "no identity issued"
        except TimeoutError:
            status = DEADLINE_EXCEEDED, "deadline exceeded"
        except PlantroomError as error:
            LOG.error("a caller got no answer pid=%d: %s", self._peer.pid, error)  # noqa: TRY400 -- one line
            status = INTERNAL, "see the issuer's log"
        except (H2Error, OSError):
            return  # the caller has gone
        finally:
            self._running.pop(stream, None)
        with suppress(H2Error, OSError, TimeoutError):
            self._end(stream, *status, begun=begun)
            await self._flush()

    async def _push(
        self,
        stream: int,
        ask: Callable[[Peer], Awaitable[bytes | None]],
        begin: Callable[[], None],
    ) -> None:
        """Send what the caller gets, at once and whenever it is something else; end with nothing.

        Each message is complete (SPIFFE Workload API 5.2.1).
        """
        last: bytes | None = None
        while True:
            news = self._offers.news
            message = await ask(self._peer)
            if message is None:
                return
            if message != last:
                begin()
                await self._send(stream, b"\0" + struct.pack(">I", len(message)) + message)
            last = message
            await news.wait()

    async def _send(self, stream: int, data: bytes) -> None:
        """Send within the windows that the caller gives (RFC 9113 5.2)."""
        async with asyncio.timeout(self._limits.send_s_max):
            while data:
                room = min(
                    self._http.local_flow_control_window(stream), self._http.max_outbound_frame_size
                )
                if room <= 0:
                    self._room.clear()
                    await self._room.wait()
                    continue
                self._http.send_data(stream, data[:room])
                data = data[room:]
                await self._flush()

    async def _flush(self) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the caller has gone")
        self._writer.write(self._http.data_to_send())
        async with asyncio.timeout(self._limits.send_s_max):
            await self._writer.drain()

    def _end(self, stream: int, status: int, message: str, *, begun: bool = False) -> None:
        """End a call with its status; before the first message in headers alone."""
        trailers = [(b"grpc-status", str(status).encode()), (b"grpc-message", message.encode())]
        head: Iterable[tuple[bytes, bytes]] = () if begun else ((b":status", b"200"), _CONTENT_TYPE)
        self._http.send_headers(stream, [*head, *trailers], end_stream=True)
        self._refused(status, self._peer)

    def _end_http(self, stream: int, status: bytes) -> None:
        self._http.send_headers(stream, [(b":status", status)], end_stream=True)
        self._refused(INVALID_ARGUMENT, self._peer)


def _settings(limits: CallLimits) -> Settings:
    offered = {SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams_max}
    return Settings(client=False, initial_values=offered)


def _seconds(timeout: bytes | None) -> float | None:
    """Read `grpc-timeout` (gRPC over HTTP/2); what is none sets no deadline."""
    found = _TIMEOUT.fullmatch(timeout or b"")
    return int(found[1]) * _UNIT_S[found[2]] if found else None
