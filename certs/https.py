"""A small HTTPS server: one request a connection, and a limit on everything.

h11 knows HTTP; this knows when to stop: connections in all and from one address, bytes of header
and body, seconds for handshake and request. Each refusal is one line in the audit.
"""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import h11

from plantroom.certs.address_rate import AddressRate
from plantroom.wire.errors import ConfigError, RefusedError
from plantroom.wire.handshake import refusal_reason

AUDIT = logging.getLogger("plantroom.certs.audit")
LOG = logging.getLogger("plantroom.certs.https")
BACKLOG = 512
ACCEPT_RETRY_S = 0.2
SHUTDOWN_S_MAX = 2.0
FLOOD_LINE_S = 1.0  # how often a flood is said in the audit


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsLimits:
    """What one server takes on. Beyond `connections_max` callers wait in the kernel's queue.

    An address that asks more often is cut off before its handshake, which is what costs.
    """

    connections_max: int = 128
    connections_per_address_max: int = 64
    connections_per_address_per_s: float = 20.0
    connections_per_address_burst: int = 300
    handshake_s_max: float = 10.0
    request_s_max: float = 15.0
    header_bytes_max: int = 8 * 1024
    body_bytes_max: int = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; `connection` is the TLS object, `peer` the address as text."""

    method: str
    path: str
    body: bytes
    peer: str
    connection: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One JSON answer."""

    status: int
    body: bytes


class RequestRefusedError(RefusedError):
    """A request that gets no more than an HTTP status and a reason; `where` says who asked."""

    def __init__(self, status: int, reason: str, *, what: str = "", where: str = "") -> None:
        super().__init__(what or reason, reason=reason, where=where)
        self.status = status

    def body(self) -> bytes:
        """Return the answer's body."""
        return json.dumps({"reason": self.reason, "what": self.what}).encode()


Handler = Callable[[Request], Awaitable[Response]]


class HttpsServer:
    """Serves `handler` while it is open; `context` is asked at every accept, so that it may rotate.

    An async context manager: `start` listens, leaving stops listening and cuts what is open.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        context: Callable[[], ssl.SSLContext],
        limits: HttpsLimits | None = None,
    ) -> None:
        self._handler = handler
        self._context = context
        self._limits = limits or HttpsLimits()
        self._slots = asyncio.Semaphore(self._limits.connections_max)
        self._by_address: Counter[str] = Counter()
        self._rate = AddressRate(
            per_s=self._limits.connections_per_address_per_s,
            burst=self._limits.connections_per_address_burst,
        )
        self._group = asyncio.TaskGroup()
        self._accepting: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet_until_s = 0.0
        self.refusals: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.sleep(0)  # a task that never began would not close its socket
        for task in self._accepting:
            task.cancel()
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, failure, traceback)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the bound port.

        Raises:
            ConfigError: when the address cannot be bound.
        """
        listener = _listener(host, port)
        accepting = self._group.create_task(self._accept(listener), name="certs.https.accept")
        self._accepting.append(accepting)
        return int(listener.getsockname()[1])

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                await self._slots.acquire()
                try:
                    accepted, address = await loop.sock_accept(listener)
                except OSError as error:  # out of descriptors, or the caller has gone already
                    self._slots.release()
                    LOG.warning("cannot accept: %s", error.strerror)
                    await asyncio.sleep(ACCEPT_RETRY_S)
                    continue
                task = self._group.create_task(
                    self._connection(accepted, address), name="certs.https.connection"
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _connection(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        host, peer = str(address[0]), f"{address[0]}:{address[1]}"
        self._by_address[host] += 1
        try:
            if reason := self._too_much(host):
                self._cut_off(peer, reason)
                accepted.close()
                return
            await self._conversation(accepted, peer)
        except (OSError, TimeoutError) as error:
            self.refuse(peer, refusal_reason(error))
        except Exception:  # one bad request must not stop the server: kept with its traceback
            self.refuse(peer, "internal-error")
            LOG.exception("request failed peer=%s", peer)
        finally:
            self._by_address[host] -= 1
            self._by_address += Counter()  # forgets those at zero
            self._slots.release()

    def _too_much(self, host: str) -> str:
        if self._by_address[host] > self._limits.connections_per_address_max:
            return "too-many-connections"
        allowed = self._rate.take(host, asyncio.get_running_loop().time())
        return "" if allowed else "too-many-requests"

    def _cut_off(self, peer: str, reason: str) -> None:
        """Count a refusal of a flood; a line of the audit for each would be a flood of its own."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._quiet_until_s:
            self.refusals[reason] += 1
            return
        self._quiet_until_s = now_s + FLOOD_LINE_S
        self.refuse(peer, reason)

    def refuse(self, peer: str, reason: str, *, who: str = "-") -> None:
        """Count a refusal and write its line of the audit."""
        self.refusals[reason] += 1
        AUDIT.warning("refused peer=%s id=%s reason=%s", peer, who, reason)

    async def _conversation(self, accepted: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=self._limits.header_bytes_max, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            accepted,
            ssl=self._context(),
            ssl_handshake_timeout=self._limits.handshake_s_max,
            ssl_shutdown_timeout=SHUTDOWN_S_MAX,
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            async with asyncio.timeout(self._limits.request_s_max):
                await self._exchange(reader, writer, peer)
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(SHUTDOWN_S_MAX + 1):
                    await writer.wait_closed()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.header_bytes_max)
        try:
            head, body = await self._read(http, reader, writer)
            request = Request(
                method=head.method.decode(),
                path=head.target.decode(),
                body=body,
                peer=peer,
                connection=writer.get_extra_info("ssl_object"),
            )
            response = await self._handler(request)
        except RequestRefusedError as refused:
            self.refuse(peer, refused.reason, who=refused.where or "-")
            response = Response(status=refused.status, body=refused.body())
        except h11.RemoteProtocolError as error:
            self.refuse(peer, "bad-http")
            response = Response(status=error.error_status_hint, body=b'{"reason": "bad-http"}')
        self.answers[response.status] += 1
        writer.write(_rendered(http, response))
        await writer.drain()

    async def _read(
        self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[h11.Request, bytes]:
        head, body = None, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                if http.they_are_waiting_for_100_continue:
                    writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])))
                http.receive_data(await reader.read(self._limits.header_bytes_max))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.body_bytes_max:
                    raise RequestRefusedError(413, "body-too-large")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return head, body
            else:
                raise ConnectionResetError("the peer went away before its request was whole")


def _rendered(http: h11.Connection, response: Response) -> bytes:
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    if http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return b""
    parts = (
        http.send(h11.Response(status_code=response.status, headers=headers)),
        http.send(h11.Data(data=response.body)),
        http.send(h11.EndOfMessage()),
    )
    return b"".join(part for part in parts if part)


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen: {error.strerror}",
            where=f"{host}:{port}",
            remedy="choose another identity.enrol_host or enrol_port, or stop what has it",
        ) from error
    return listener
