"""HTTP inside a process that has its own loop and signal handlers: uvicorn without either."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from plantroom.wire.errors import ConfigError

GRACE_S = 1
CLOSE_TIMEOUT_S = 5.0
REQUESTS_MAX = 250
BACKLOG = 128


class _Server(uvicorn.Server):
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
        limit_concurrency=REQUESTS_MAX,
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
