"""Listeners: accept, TLS, admission. One context per accept, so that SVIDs rotate under way.

Handshakes are awaited here, not left to the event loop, because one that fails has to be in the
audit with its reason.
"""

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from plantroom.broker.connection import Connection
from plantroom.broker.doorway import Place
from plantroom.broker.engine import Engine
from plantroom.broker.guard import Peer
from plantroom.broker.packet_handler import PacketHandler
from plantroom.wire.errors import ConfigError, IdentityError
from plantroom.wire.identity import Principal

LOGGER = logging.getLogger("plantroom.broker.listener")
Admit = Callable[[Any], Principal | None]
Wrap = Callable[[Connection], asyncio.BaseProtocol]
_BACKLOG = 1024
_BREATH_S = 0.2
_FILES_KEPT = 1000  # for databases, pages and whatever else a process opens


def bind(host: str, port: int, *, receive_bytes_max: int = 0) -> socket.socket:
    """Bind a listening socket; what it accepts inherits how much may wait there to be read.

    Raises:
        ConfigError: when the port is taken or the address is not this machine's.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
    except OSError as error:
        raise ConfigError(f"cannot listen: {error.strerror}", where=f"{host}:{port}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes_max:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes_max)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen: {error.strerror}",
            where=f"{host}:{port}",
            remedy="choose another port, or stop what uses it",
        ) from error
    return listening


def room(connections_max: int) -> int:
    """Return how many connections there may be: with no descriptor left nothing else works."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return connections_max
    found = min(connections_max, max(files // 2, files - _FILES_KEPT))
    if found < connections_max:
        LOGGER.warning(
            "limits.connections_max is %d, and %d are taken: this process may open %d files"
            " (raise ulimit -n, or LimitNOFILE)",
            connections_max,
            found,
            files,
        )
    return found


class Listener:
    """Accepts connections on one socket."""

    def __init__(  # noqa: PLR0913 -- the parts of a listener
        self,
        engine: Engine,
        handler: PacketHandler,
        listening: socket.socket,
        context: ssl.SSLContext | None,
        admit: Admit,
        *,
        wrap: Wrap | None = None,
    ) -> None:
        self._engine = engine
        self._handler = handler
        self._socket = listening
        self._context = context
        self._admit = admit
        self._connections_max = room(engine.limits.connections_max)
        self._wrap = wrap  # what stands between a socket and its connection, if anything does

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening; also a listener that never got to `run`."""
        self._socket.close()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, address = await loop.sock_accept(self._socket)
                except OSError as error:  # out of file descriptors, most likely: others may close
                    LOGGER.warning("cannot accept: %s", error)
                    await asyncio.sleep(_BREATH_S)
                    continue
                group.create_task(
                    self._greet(accepted, f"{address[0]}:{address[1]}"), name="broker.handshake"
                )
        finally:
            self.close()

    async def _greet(self, accepted: socket.socket, address: str) -> None:
        """Do the handshake and check the identity of one accepted socket."""
        engine = self._engine
        place = self._place(address)
        if place is None:
            accepted.close()
            return
        try:
            keep_alive(accepted, engine.limits.tcp_keepalive_s)
            async with engine.doorway.turn(place):
                await self._connect(accepted, address, place)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            place.leave()
            engine.counters.refused += 1
            if isinstance(error, TimeoutError):
                engine.counters.hit("handshake_timeout_s")
            engine.audit.record("refused", Peer(None, address), reason=f"TLS: {_why(error)}")
            accepted.close()
        except BaseException:
            place.leave()
            raise

    def _place(self, address: str) -> Place | None:
        """Return a place in the doorway; None, counted and audited, when there is none."""
        engine = self._engine
        limit = "connections_max"
        if len(engine.connections) + engine.doorway.handshakes < self._connections_max:
            place = engine.doorway.enter(address.rpartition(":")[0])
            if place is not None:
                return place
            limit = "address_waiting_max"
        engine.counters.refused += 1
        engine.counters.hit(limit)
        engine.audit.record("refused", Peer(None, address), reason=f"too many connections: {limit}")
        return None

    async def _connect(self, accepted: socket.socket, address: str, place: Place) -> None:
        engine = self._engine

        def make() -> asyncio.BaseProtocol:
            made = Connection(engine, self._handler, self._admit_checked, address, place)
            return self._wrap(made) if self._wrap else made

        timeout_s = engine.limits.handshake_timeout_s
        # [MQTT-4.2.0-1]
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            make,
            accepted,
            ssl=self._context,
            ssl_handshake_timeout=timeout_s if self._context else None,
        )
        if self._context and not transport.is_closing():
            # Who is not read for a while would fill a buffer of TLS's own, of 256 KiB.
            cast("Any", transport).set_read_buffer_limits(high=1, low=0)

    def _admit_checked(self, ssl_object: Any) -> Principal | None:
        """Return who it is; None on a listener without TLS.

        Raises:
            IdentityError: refused.
        """
        if self._context is None:
            return None
        if ssl_object is None:
            raise IdentityError("connection has no TLS", reason="no-tls")
        return self._admit(ssl_object)


def keep_alive(accepted: socket.socket, silence_s: int) -> None:
    """Find out in time that the other end is gone, also where MQTT's keep-alive is off."""
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", silence_s),
        ("TCP_KEEPINTVL", max(silence_s // 4, 1)),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 2000 * silence_s),  # and what was sent is not confirmed
    ):
        if hasattr(socket, name):  # each system has some of them
            accepted.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _why(error: BaseException) -> str:
    for name in ("verify_message", "reason"):  # "certificate has expired" says more than its class
        if text := getattr(error, name, None):
            return str(text)
    return str(error) or type(error).__name__
