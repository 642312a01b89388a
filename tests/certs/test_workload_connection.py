"""The Workload API's wire, spoken by hand: what each kind of bad request is answered with."""

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from h2 import events
from h2.connection import H2Connection
from h2.settings import SettingCodes

from plantroom.certs.authority import Authority
from plantroom.certs.registry import Registry
from plantroom.certs.workload_connection import CallLimits
from plantroom.certs.workload_messages import BUNDLES_METHOD, SVIDS_METHOD, read_svids
from plantroom.certs.workload_server import ServerLimits
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.workload_issuer import Issuer, serving

GOOD = {
    ":method": "POST",
    ":scheme": "http",
    ":path": SVIDS_METHOD,
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
    "workload.spiffe.io": "true",
}
EMPTY = b"\0" * 5
LIMITS = CallLimits(streams_max=4, calls_max=8, request_bytes_max=100)
SOON_S = 0.3


@dataclass
class Stream:
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False


class Caller:
    """One raw connection; `streams` is what has come back on each."""

    def __init__(self, path: Path) -> None:
        self.http = H2Connection()
        self.streams: dict[int, Stream] = {}
        self.over = False
        self.acknowledges = True
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(20)
        self.link.connect(str(path))
        self.http.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.link.sendall(self.http.data_to_send())

    def ask(self, headers: dict[str, str], body: bytes = EMPTY, *, end: bool = True) -> Stream:
        number = self.http.get_next_available_stream_id()
        self.streams[number] = Stream()
        self.http.send_headers(number, list(headers.items()), end_stream=end and not body)
        if body:
            self.http.send_data(number, body, end_stream=end)
        self.flush()
        return self.streams[number]

    def until(self, claim: Callable[[], bool]) -> None:
        while not claim() and not self.over:
            data = self.link.recv(65_536)
            if not data:
                self.over = True
            for event in self.http.receive_data(data):
                self.take(event)
            with contextlib.suppress(OSError):
                self.flush()
        assert claim()

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.ResponseReceived | events.TrailersReceived):
            stream = self.streams[event.stream_id]
            stream.headers |= {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, events.DataReceived):
            self.streams[event.stream_id].data += event.data
            if self.acknowledges:
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self.streams[event.stream_id].ended = True


@pytest.fixture
def path(
    tmp_path: Path, building: Authority, registry: Registry, sensor_id: SpiffeId
) -> Iterator[Path]:
    registry.create(sensor_id, selectors=(f"unix:uid:{os.geteuid()}",))
    where = tmp_path / "w.sock"
    with serving(building, registry, where, limits=ServerLimits(call=LIMITS)):
        yield where


@pytest.fixture
def caller(path: Path) -> Iterator[Caller]:
    made = Caller(path)
    with contextlib.closing(made.link):
        yield made


def status_of(caller: Caller, stream: Stream) -> tuple[str, str]:
    caller.until(lambda: stream.ended)
    return stream.headers[":status"], stream.headers.get("grpc-status", "")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"workload.spiffe.io": "false"}, ("200", "3")),  # SPIFFE Workload Endpoint 6.3.1
        ({"workload.spiffe.io": None}, ("200", "3")),
        ({":path": "/SpiffeWorkloadAPI/FetchJWTSVID"}, ("200", "12")),
        ({":path": "/SpiffeWorkloadAPI/FetchJWTBundles"}, ("200", "12")),
        ({":path": "/SpiffeWorkloadAPI/ValidateJWTSVID"}, ("200", "12")),
        ({":path": "/grpc.health.v1.Health/Check"}, ("200", "12")),
        ({":path": "/SpiffeWorkloadAPI/FetchJWTSVID", "workload.spiffe.io": None}, ("200", "3")),
        ({":method": "GET"}, ("405", "")),
        ({"content-type": "text/plain"}, ("415", "")),
        ({"content-type": None}, ("415", "")),
        ({"grpc-timeout": "50m"}, ("200", "4")),
    ],
)
def test_what_is_asked_wrongly_gets_the_status_that_says_so(
    caller: Caller, change: dict[str, str | None], status: tuple[str, str]
) -> None:
    headers = {name: value for name, value in (GOOD | change).items() if value is not None}
    assert status_of(caller, caller.ask(headers)) == status
    good = caller.ask(GOOD)
    caller.until(lambda: len(good.data) > 5)  # the connection is none the worse


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", "13"),
        (b"\0\0\0\0\5abc", "13"),
        (EMPTY + EMPTY, "13"),
        (b"\1\0\0\0\0", "12"),
        (b"\0\0\0\0\xff" + b"x" * 255, "8"),
    ],
)
def test_a_request_is_one_small_message(caller: Caller, body: bytes, status: str) -> None:
    assert status_of(caller, caller.ask(GOOD, body)) == ("200", status)


def test_the_answer_keeps_to_the_callers_windows(path: Path, sensor_id: SpiffeId) -> None:
    caller = Caller(path)
    with contextlib.closing(caller.link):
        caller.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        caller.flush()
        first = caller.ask(GOOD | {":path": BUNDLES_METHOD})
        caller.until(lambda: len(first.data) > 5 + int.from_bytes(first.data[1:5], "big") - 1)
        second = caller.ask(GOOD)
        caller.until(lambda: len(second.data) > 5 + int.from_bytes(second.data[1:5], "big") - 1)
        assert read_svids(second.data[5:]).names == (str(sensor_id),)
        assert not second.ended


def limited(
    tmp_path: Path, building: Authority, registry: Registry, **limits: float
) -> AbstractContextManager[Issuer]:
    call = dataclasses.replace(LIMITS, **limits)  # type: ignore[arg-type] # all of them are times
    return serving(building, registry, tmp_path / "w.sock", limits=ServerLimits(call=call))


def test_a_caller_without_a_call_is_let_go(
    tmp_path: Path, building: Authority, registry: Registry
) -> None:
    with limited(tmp_path, building, registry, first_call_s_max=SOON_S) as issuer:
        caller = Caller(issuer.path)
        with contextlib.closing(caller.link):
            caller.until(lambda: caller.over)


def test_an_idle_caller_is_let_go_and_one_that_listens_is_not(
    tmp_path: Path, building: Authority, registry: Registry, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id, selectors=(f"unix:uid:{os.geteuid()}",))
    with limited(tmp_path, building, registry, idle_s_max=SOON_S) as issuer:
        caller = Caller(issuer.path)
        with contextlib.closing(caller.link):
            stream = caller.ask(GOOD)
            caller.until(lambda: bool(stream.data))
            time.sleep(2 * SOON_S)  # a call is open: nobody is idle
            caller.http.ping(b"12345678")
            caller.flush()
            caller.http.reset_stream(1)
            caller.flush()
            caller.until(lambda: caller.over)


def test_calls_and_streams_of_a_connection_are_bounded(path: Path) -> None:
    caller = Caller(path)
    with contextlib.closing(caller.link):
        caller.until(lambda: caller.http.remote_settings.max_concurrent_streams == 4)
        for _ in range(LIMITS.calls_max):  # each given up at once
            number = caller.http.get_next_available_stream_id()
            caller.http.send_headers(number, list(GOOD.items()))
            caller.http.reset_stream(number)
        caller.flush()
        caller.until(lambda: caller.over)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\5\1\5\0\0\0\1\xff\xff\xff\xff\xff",
    ],
)
def test_what_is_not_http_2_ends_its_own_connection_alone(
    path: Path, caller: Caller, data: bytes
) -> None:
    stream = caller.ask(GOOD)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        other.settimeout(20)
        other.connect(str(path))
        other.sendall(data)
        while other.recv(65_536):
            pass
    caller.until(lambda: bool(stream.data))
