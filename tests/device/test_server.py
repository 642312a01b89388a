import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from plantroom.device.server import HealthServer, is_loopback
from plantroom.wire import tls
from plantroom.wire.errors import ConfigError
from plantroom.wire.identity import Identity
from plantroom.wire.metrics import Metric
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import BUILDING, CLOUD, Issuer
from tests.fakes.waiting import until


class StubHealth:
    def __init__(self) -> None:
        self.wrong: list[str] = []

    def troubles(self) -> list[str]:
        return self.wrong

    def metrics(self) -> list[Metric]:
        return [Metric("plantroom_device_x", "gauge", "X.", 1)]


@contextlib.contextmanager
def serving(
    host: str = "127.0.0.1",
    *,
    show_metrics: bool = True,
    connections_max: int = 5,
    identity: Identity | None = None,
) -> Iterator[HealthServer]:
    health: Any = StubHealth()
    server = HealthServer(
        (host, 0),
        health,
        show_metrics=show_metrics,
        connections_max=connections_max,
        timeout_s=2,
        identity=lambda: identity,
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stop_soon()
        thread.join(60)
        server.server_close()


def get(server: HealthServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_paths_answer() -> None:
    with serving() as server:
        assert get(server, "/healthz") == (200, "ok\n")
        assert get(server, "/readyz") == (200, "ok\n")
        assert "plantroom_device_x 1" in get(server, "/metrics")[1]
        assert get(server, "/else")[0] == 404
        server.health.troubles().append("not connected")
        assert get(server, "/readyz") == (503, "not connected\n")
        assert get(server, "/healthz")[0] == 200


def test_metrics_are_shown_only_when_asked_for() -> None:
    with serving(show_metrics=False) as server:
        assert get(server, "/metrics")[0] == 404


def test_more_connections_than_allowed_are_closed_at_once() -> None:
    with serving(connections_max=1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as first:
            first.sendall(b"GET /")
            until(lambda: server._slots._value == 0, deadline_s=60)
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as second:
                assert second.recv(1) == b""
        until(lambda: server._slots._value == 1, deadline_s=60)
        assert get(server, "/healthz")[0] == 200


def test_slow_client_is_dropped_after_its_time() -> None:
    with (
        serving() as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow,
    ):
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert slow.recv(1) == b""


def test_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        health: Any = StubHealth()
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*server\.port"):
            HealthServer(
                ("127.0.0.1", port),
                health,
                show_metrics=True,
                connections_max=1,
                timeout_s=1,
                identity=lambda: None,
            )


def ask_over_tls(server: HealthServer, identity: Identity) -> bytes:
    device = SpiffeId.parse(f"spiffe://{BUILDING}/agent/hvac-001")
    context = tls.client_context(identity, server_ids=(device,))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain) as secured,
    ):
        secured.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return secured.recv(4096)


def test_beyond_loopback_only_members_of_the_building_get_in() -> None:
    building, cloud = Issuer(BUILDING), Issuer(CLOUD)
    device = building.identity("agent/hvac-001", building, cloud)
    with serving("0.0.0.0", identity=device) as server:  # noqa: S104 -- what is tested
        member = building.identity("agent/gateway", building)
        assert ask_over_tls(server, member).startswith(b"HTTP/1.0 200")
        foreign = cloud.identity("agent/dashboard", building, cloud)
        with contextlib.suppress(OSError):
            assert ask_over_tls(server, foreign) == b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
            plain.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert not plain.recv(4096).startswith(b"HTTP")


def test_beyond_loopback_nothing_is_served_without_an_identity() -> None:
    with (
        serving("0.0.0.0") as server,  # noqa: S104 -- what is tested
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
    ):
        assert plain.recv(1) == b""


@pytest.mark.parametrize(
    ("host", "yes"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("gw", False)],  # noqa: S104
)
def test_loopback_is_known(host: str, yes: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is yes
