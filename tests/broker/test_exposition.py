import asyncio
import socket
from contextlib import closing, suppress

import pytest

from plantroom.broker import exposition
from plantroom.broker.exposition import exposed
from plantroom.broker.memory import MemorySink
from plantroom.wire.errors import ConfigError, StorageFullError
from tests.broker.test_admin import connected, made


async def fetched(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()


def test_metrics_in_the_form_of_prometheus() -> None:
    async def scenario() -> None:
        async with (
            made() as broker,
            exposed(broker, "127.0.0.1", 0) as port,
            connected(broker, "c"),
        ):
            head, _, body = (await fetched(port, get("/metrics?x=1"))).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"text/plain; version=0.0.4" in head
            assert b"\nplantroom_broker_connections 1\n" in body
            assert b'plantroom_broker_limit_hits_total{limit="topic_levels_max"} 0' in body
            head, _, body = (await fetched(port, get("/metrics", "HEAD"))).partition(b"\r\n\r\n")
            assert (head[:12], body) == (b"HTTP/1.1 200", b"")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/healthz"), b"200"),
        (get("/"), b"404"),
        (get("/metrics", "POST"), b"405"),
    ],
)
def test_there_is_nothing_else(request_: bytes, status: bytes) -> None:
    async def scenario() -> None:
        async with made() as broker, exposed(broker, "127.0.0.1", 0) as port:
            assert (await fetched(port, request_)).split()[1] == status

    asyncio.run(scenario())


def test_health_says_that_nothing_can_be_stored() -> None:
    async def scenario() -> None:
        sink = MemorySink()
        async with (
            made(sink) as broker,
            exposed(broker, "127.0.0.1", 0) as port,
            connected(broker, "c", version=5) as raw,
        ):
            sink.fault = StorageFullError("no space left")
            raw.publish("a", retain=True)
            assert (await raw.frame())[1][2] == 0x97
            answer = await fetched(port, get("/healthz"))
            assert answer.split()[1] == b"503"
            assert b"no space left" in answer
            sink.fault = None

    asyncio.run(scenario())


def test_nonsense_and_silence_end_without_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with made() as broker, exposed(broker, "127.0.0.1", 0) as port:
            with monkeypatch.context() as hasty:
                hasty.setattr(exposition, "TIMEOUT_S", 0.2)
                for nonsense in (b"\0\1\2\r\n\r\n", b"x" * 100_000, b"", b"GET / HTTP/1.1\r\nHos"):
                    with suppress(ConnectionError):
                        assert not (await fetched(port, nonsense)).startswith(b"HTTP/1.1 200")
            assert b" 200 " in await fetched(port, get("/healthz"))

    asyncio.run(scenario())


def test_port_that_is_taken_is_named() -> None:
    async def scenario() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            async with made() as broker:
                with pytest.raises(ConfigError, match=str(port)):
                    async with exposed(broker, "127.0.0.1", port):
                        pass

    asyncio.run(scenario())
