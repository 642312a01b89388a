"""HTTP inside a process that has its own loop and signal handlers: uvicorn without either.

uvicorn waits for ever for a request that does not come, and answers nobody once too many wait: here
a request has its time, and whoever has waited longest without one makes room.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from plantroom.wire.errors import ConfigError

GRACE_S = 1
CLOSE_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 250
REQUEST_S = 10.0  # for TLS, and again for each request
BACKLOG = 128


class _Connection(H11Protocol):
    """A connection that may wait for a request only so long, and not where others need room."""

    since_s = 0.0  # since when it waits for a request

    def connection_made(self, transport: Any) -> None:
        """Take it on; when there are too many, the one that has waited longest goes."""
        super().connection_made(transport)
        self.since_s = self.loop.time()
        self._look_later()
        if len(self.connections) > CONNECTIONS_MAX:
            ours = [one for one in self.connections if isinstance(one, _Connection)]
            oldest = min((one for one in ours if one.is_waiting), key=lambda one: one.since_s)
            self.connections.discard(oldest)  # at once: as many may come before it is lost
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.since_s = self.loop.time()
        super().on_response_complete()

    @property
    def is_waiting(self) -> bool:
        """Whether no request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(REQUEST_S, self._look, self.cycle)

    def _look(self, known: RequestResponseCycle | None) -> None:
        """End it when no request has come since it was looked at last."""
        if self.cycle is known and self.is_waiting:
            self.transport.abort()
        else:
            self._look_later()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; uvicorn's own way would wait a minute for each TLS handshake."""
        loop = asyncio.get_running_loop()
        context = self.config.ssl
        self.servers = [
            await loop.create_server(
                partial(_Connection, self.config, self.server_state, {}),
                sock=listener,
                ssl=context,
                ssl_handshake_timeout=REQUEST_S if context else None,
                backlog=BACKLOG,
            )
            for listener in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers alone."""
        yield


async def serve(
    app: Starlette,
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    on_bound: Callable[[int], None] | None = None,
) -> None:
    """Serve until cancelled; feeds end first, then connections get `GRACE_S` to finish.

    `context` makes it HTTPS. `on_bound` hears the port, which matters when `port` is 0.

    Raises:
        ConfigError: when the address cannot be had.
    """
    listener = _bind(host, port)
    if on_bound is not None:
        on_bound(listener.getsockname()[1])
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        loop="none",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    config.ssl = context
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="views.http")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        app.state.feeds.close()
        server.should_exit = True
        await asyncio.wait([serving], timeout=CLOSE_TIMEOUT_S)
        serving.cancel()
        raise
    finally:
        listener.close()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot serve HTTP there: {error.strerror}",
            where=f"{host}:{port}",
            remedy="stop what has the port, or change http.host, http.port (`up`: --port-base)",
        ) from error
