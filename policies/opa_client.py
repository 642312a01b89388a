"""Our manners of talking to an OPA server, on top of `opa-python-client`.

No second try, one deadline, no proxy of the environment, no redirect, a bound on every answer, and
our own TLS: the process's SVID, and a server that is exactly the one that was named. Closed is
closed: no connection is left that waits for the goodbye of a server that was too late.
"""

import asyncio
import socket
import ssl
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from opa_client.opa_async import AsyncOpaClient  # type: ignore[import-untyped]

from plantroom.wire.errors import ConfigError

ANSWER_BYTES_MAX = 256 * 1024
_CONNECTIONS_MAX = 32
_CLOSE_S = 1.0
_LOOPBACK = {"127.0.0.1", "[::1]", "localhost"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an OPA server listens."""

    host: str
    port: int
    secure: bool

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read `https://host:port`; plain `http` is for this machine alone.

        Raises:
            ConfigError: when it is something else.
        """
        try:
            url = urlsplit(text)
            port = url.port or 0
        except ValueError:
            url, port = urlsplit(""), 0
        host = url.netloc.rpartition(":")[0]
        secure = url.scheme == "https"
        fits = port and host and "@" not in host and url.path in {"", "/"} and not url.query
        if not fits or not (secure or (url.scheme == "http" and host in _LOOPBACK)):
            raise ConfigError(
                f"policy.endpoint is {text[:80]!r}",
                remedy='write "https://host:port", or "http://127.0.0.1:port" on this machine',
            )
        return cls(host=host, port=port, secure=secure)


class OpaClient(AsyncOpaClient):  # type: ignore[misc] # the library has no types
    """One client with one TLS context; another identity takes another client."""

    def __init__(
        self, endpoint: Endpoint, context: ssl.SSLContext | None, *, timeout_s: float
    ) -> None:
        super().__init__(
            host=endpoint.host,
            port=endpoint.port,
            ssl=endpoint.secure,
            retries=0,
            timeout=timeout_s,
            headers={"Accept-Encoding": "identity"},  # a bound on bytes is one on the answer
        )
        self._context = context
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def _init_session(self) -> None:
        self._session = aiohttp.ClientSession(
            headers=self.headers,
            connector=aiohttp.TCPConnector(
                ssl=self._context or True,
                limit=_CONNECTIONS_MAX,
                use_dns_cache=False,
                socket_factory=self._socket,
            ),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            trust_env=False,
        )

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = info
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def close_connection(self) -> None:
        """Close every connection, also those that TLS would hold open for half a minute.

        A question that was not answered in time has its connection closed with a goodbye that the
        server should return; aiohttp forgets such a connection, and would leave it to itself.
        """
        await super().close_connection()
        give_up_s = time.monotonic() + _CLOSE_S
        while held := [one for one in self._sockets if one.fileno() >= 0]:
            for one in held:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            if time.monotonic() > give_up_s:
                return
            await asyncio.sleep(0)

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with super()._request(method, url, allow_redirects=False, **options) as response:
            if response.status == 200 and not 0 < (response.content_length or 0) <= (
                ANSWER_BYTES_MAX
            ):
                raise aiohttp.ClientPayloadError("an answer without a length, or too long")
            yield response
