"""The client against servers that do not behave."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plantroom.certs import enrolment_client
from plantroom.certs.authority import Authority
from plantroom.certs.enrolment_client import Server
from plantroom.wire import tls
from plantroom.wire.errors import PlantroomError, RefusedError, UnreachableError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.ports import free_port

TOKEN = "t" * 3  # any
Speak = Callable[[ssl.SSLSocket], None]


@contextlib.contextmanager
def odd_server(gateway: Identity, speak: Speak, timeout_s: float = 30.0) -> Iterator[Server]:
    """A genuine server identity that then says what it likes."""
    context = tls.server_context(gateway)
    context.verify_mode = ssl.CERT_NONE
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            plain, _ = listener.accept()
            with plain, context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(30)
                connection.recv(64 * 1024)
                speak(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        port = listener.getsockname()[1]
        yield Server(
            host="127.0.0.1", port=port, spiffe_id=gateway.svid.spiffe_id, timeout_s=timeout_s
        )
    finally:
        listener.close()
        thread.join(10)


def ask(gateway: Identity, building: Authority, speak: Speak) -> PlantroomError:
    with odd_server(gateway, speak) as server, pytest.raises(PlantroomError) as caught:
        enrolment_client.enrol(server, building.bundle(), token=TOKEN, csr_pem=b"c")
    return caught.value


def sending(data: bytes) -> Speak:
    return lambda connection: connection.sendall(data)


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-LENGTH: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"SSH-2.0-x\r\n\r\n",
        answer(200, b"not json"),
        answer(200, b"[]"),
        answer(200, b'{"chain": 3}'),
        answer(503, b'{"reason": "busy"}'),
        answer(500, b"[]"),
    ],
)
def test_an_answer_that_is_none_is_worth_another_try(
    gateway: Identity, building: Authority, data: bytes
) -> None:
    error = ask(gateway, building, sending(data))
    assert isinstance(error, UnreachableError)
    assert "127.0.0.1:" in error.where


def test_a_refusal_carries_the_servers_reason(gateway: Identity, building: Authority) -> None:
    body = b'{"reason": "token-used", "what": "join token has been used"}'
    error = ask(gateway, building, sending(answer(403, body)))
    assert isinstance(error, RefusedError)
    assert error.reason == "token-used"
    assert error.exit_code == 5
    odd = ask(gateway, building, sending(answer(404, b"<html>")))
    assert isinstance(odd, RefusedError)
    assert odd.reason == "http-404"


def test_a_server_that_drips_is_left_in_time(gateway: Identity, building: Authority) -> None:
    stop = threading.Event()

    def drip(connection: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.02):
                connection.sendall(b"x")

    try:
        error = ask_with(gateway, building, drip, stop)
    finally:
        stop.set()
    assert isinstance(error, UnreachableError)
    assert "timed out" in str(error)


def ask_with(
    gateway: Identity, building: Authority, speak: Speak, stop: threading.Event
) -> PlantroomError:
    with odd_server(gateway, speak, timeout_s=0.5) as server:
        with pytest.raises(PlantroomError) as caught:
            enrolment_client.enrol(server, building.bundle(), token=TOKEN, csr_pem=b"c")
        stop.set()
    return caught.value


def test_an_endless_answer_is_cut(gateway: Identity, building: Authority) -> None:
    def pour(connection: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 65_536)

    error = ask(gateway, building, pour)
    assert isinstance(error, UnreachableError)


def test_nobody_there_is_said_with_the_address(building: Authority) -> None:
    port = free_port()
    server = Server(
        host="127.0.0.1", port=port, spiffe_id=SpiffeId("building-1.smart.local", "agent/gateway")
    )
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}"):
        enrolment_client.enrol(server, building.bundle(), token=TOKEN, csr_pem=b"c")


def test_an_answer_may_come_in_small_parts(gateway: Identity, building: Authority) -> None:
    from plantroom.certs import bundle

    body = bundle.to_json(building.bundle())
    data: Any = answer(200, body)

    def trickle(connection: ssl.SSLSocket) -> None:
        for at in range(0, len(data), 100):
            connection.sendall(data[at : at + 100])

    with odd_server(gateway, trickle) as server:
        found = enrolment_client._request(
            server, building.bundle(), None, enrolment_client._GET_BUNDLE
        )
    assert found == body
