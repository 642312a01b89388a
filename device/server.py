"""The agent's own small HTTP server: /metrics, /healthz, /readyz. Off unless asked for.

Plain on the loopback only; anywhere else it is HTTPS, for clients with an SVID of the gateway's
trust domain.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from plantroom.device.health import Health
from plantroom.wire import metrics, tls
from plantroom.wire.errors import ConfigError, IdentityError, UnreachableError
from plantroom.wire.identity import Identity

Who = Callable[[], Identity | None]


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HealthServer(ThreadingHTTPServer):
    """Serves at most `connections_max` requests at a time, each within its time."""

    daemon_threads = True
    block_on_close = False

    def __init__(  # noqa: PLR0913 -- the settings of [server], by name
        self,
        address: tuple[str, int],
        health: Health,
        *,
        show_metrics: bool,
        connections_max: int,
        timeout_s: float,
        identity: Who,
    ) -> None:
        self.health = health
        self.show_metrics = show_metrics
        self._identity = None if is_loopback(address[0]) else identity
        self._slots = threading.BoundedSemaphore(connections_max)
        handler = type("Handler", (_Handler,), {"timeout": timeout_s})
        try:
            super().__init__(address, handler)
        except OSError as error:
            raise ConfigError(
                f"cannot listen: {error.strerror}",
                where=f"{address[0]}:{address[1]}",
                remedy="choose another server.port, or end what uses this one",
            ) from error

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.server_address[1])

    def stop_soon(self) -> None:
        """Make `serve_forever` return, without waiting for it: a signal handler may call this."""
        threading.Thread(target=self.shutdown, name="device.server-stop", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection if there is a slot; the others are closed at once."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, over TLS where that is asked for."""
        try:
            try:
                secured = self._secured(request)
            except (OSError, IdentityError, UnreachableError):
                self.shutdown_request(request)
                return
            super().process_request_thread(secured, client_address)
        finally:
            self._slots.release()

    def _secured(self, request: socket.socket) -> socket.socket:
        if self._identity is None:
            return request
        identity = self._identity()
        if identity is None:
            raise UnreachableError("no identity yet")
        request.settimeout(self.RequestHandlerClass.timeout)  # type: ignore[attr-defined]
        connection = tls.server_context(identity).wrap_socket(request, server_side=True)
        try:
            peer = tls.peer_id(connection)
            tls.check_anchor(connection, peer, identity)
            if peer.trust_domain != identity.svid.spiffe_id.trust_domain:
                raise IdentityError("another trust domain", reason="wrong-trust-domain")
        except IdentityError:
            connection.close()
            raise
        return connection

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is not our trouble."""


class _Handler(BaseHTTPRequestHandler):
    server: HealthServer
    server_version = "plantroom"
    sys_version = ""
    _PATHS: ClassVar[tuple[str, ...]] = ("/metrics", "/healthz", "/readyz")

    def do_GET(self) -> None:
        """Answer a GET."""
        troubles = self.server.health.troubles()
        if self.path == "/metrics" and self.server.show_metrics:
            text = metrics.render(self.server.health.metrics())
            self._answer(200, text, metrics.CONTENT_TYPE)
        elif self.path == "/healthz":
            self._answer(200, "ok\n")
        elif self.path == "/readyz":
            self._answer(503 if troubles else 200, "\n".join(troubles or ["ok"]) + "\n")
        else:
            self._answer(404, f"not here; try {' '.join(self._PATHS)}\n")

    def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Say nothing about single requests."""
