import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from plantroom.broker import admin
from plantroom.broker.access import OneAnswer
from plantroom.broker.admin import LINE_BYTES_MAX, administered
from plantroom.broker.memory import MemorySink
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError, StorageFullError
from plantroom.wire.unix_socket import short_address
from tests.broker.harness import Raw


def made(sink: MemorySink | None = None) -> Broker:
    return Broker(
        limits=BrokerLimits(sys_interval_s=0.0),
        store=sink or MemorySink(),
        admit=lambda _: None,
        decisions=OneAnswer(allow=True),
        clock=SystemClock(),
    )


@asynccontextmanager
async def connected(broker: Broker, client_id: str, **options: Any) -> AsyncIterator[Raw]:
    port = await broker.listen("127.0.0.1", 0, None)
    raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
    await raw.connect(client_id, **options)
    try:
        yield raw
    finally:
        raw.close()


async def asked(path: Path, line: bytes) -> list[dict[str, Any]]:
    with short_address(path) as address:
        reader, writer = await asyncio.open_unix_connection(address)
    writer.write(line + b"\n")
    try:
        return [json.loads(answer) async for answer in reader]
    except ConnectionError:  # it did not read what was asked
        return []
    finally:
        writer.close()


def test_only_the_brokers_own_user_may_open_the_socket_and_it_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "broker.sock"
        async with administered(made(), path):
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
        assert not path.exists()

    asyncio.run(scenario())


def test_somebody_else_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        path = tmp_path / "broker.sock"
        async with administered(made(), path):
            monkeypatch.setattr(admin, "_is_ours", lambda _: False)
            assert await asked(path, b'{"ask":"sessions"}') == []

    asyncio.run(scenario())


def test_socket_of_a_killed_broker_is_replaced_that_of_a_live_one_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "broker.sock"
        with closing(socket.socket(socket.AF_UNIX)) as left_behind:
            left_behind.bind(str(path))
        async with administered(made(), path):
            with pytest.raises(ConfigError, match="another broker"):
                async with administered(made(), path):
                    pass
            assert await asked(path, b'{"ask":"sessions"}') == [{"end": 0}]
        with pytest.raises(ConfigError, match="cannot make the socket"):
            async with administered(made(), tmp_path / "none" / "broker.sock"):
                pass

    asyncio.run(scenario())


def test_long_path_is_reached_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path.joinpath(*["deep" * 10] * 3)
        folder.mkdir(parents=True)
        assert len(os.fsencode(folder)) > 107
        path = folder / "broker.sock"
        async with administered(made(), path):
            assert await asked(path, b'{"ask":"sessions"}') == [{"end": 0}]

    asyncio.run(scenario())


def test_sessions_are_shown_and_kicked_by_client_id_or_spiffe_id(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "broker.sock"
        async with (
            administered(made(), path) as broker,
            connected(broker, "a", version=5) as raw,
            connected(broker, "b") as again,
        ):
            await raw.subscribe(("t/#", 1))
            row, _, end = await asked(path, b'{"ask":"sessions"}')
            assert row["row"]["client_id"] == "a"
            assert row["row"]["subscriptions"] == ["t/#"]
            assert end == {"end": 2}
            said = await asked(path, b'{"ask":"kick","about":"a"}')
            assert said == [{"row": {"closed": 1}}, {"end": 1}]
            assert (await raw.frame())[1][0] == 0x98
            said = await asked(path, b'{"ask":"kick","about":"anonymous"}')
            assert said[0] == {"row": {"closed": 1}}
            assert await again.closed()
            said = await asked(path, b'{"ask":"kick","about":"nobody"}')
            assert said[0] == {"row": {"closed": 0}}

    asyncio.run(scenario())


def test_retained_messages_are_shown_and_forgotten_for_good(tmp_path: Path) -> None:
    async def scenario() -> None:
        sink, path = MemorySink(), tmp_path / "broker.sock"
        async with (
            administered(made(sink), path) as broker,
            connected(broker, "a") as raw,
            connected(broker, "w") as watcher,
        ):
            for number, topic in enumerate(("x/1", "x/2", "y"), 1):
                raw.publish(topic, b"value", retain=True, packet_id=number)
            await raw.frames(3)
            await watcher.subscribe(("x/#", 0))
            await watcher.frames(2)
            said = await asked(path, b'{"ask":"retained","about":"x/+"}')
            assert sorted(one["row"]["topic"] for one in said[:-1]) == ["x/1", "x/2"]
            assert said[0]["row"]["payload_bytes"] == 5
            said = await asked(path, b'{"ask":"prune","about":"x/#"}')
            assert said[0] == {"row": {"forgotten": 2}}
            assert await watcher.silent(), "nobody is told"
            sink.fault = StorageFullError("full")
            (said_one,) = await asked(path, b'{"ask":"prune","about":"y"}')
            assert "cannot store" in said_one["error"]
            assert len(list(broker.retained("#"))) == 1
            sink.fault = None
        async with made(sink) as broker:
            assert [info.topic for info in broker.retained("#")] == ["y"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"ask":"shutdown"}',
        b'{"ask":"kick","about":7}',
        b'{"ask":"retained","about":"a/#/b"}',
        b'{"ask":"prune"}',
        b"\xff",
    ],
)
def test_what_is_no_question_is_answered_so(line: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "broker.sock"
        async with administered(made(), path):
            (said,) = await asked(path, line)
            assert said["error"]

    asyncio.run(scenario())


def test_line_without_end_and_silence_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        path = tmp_path / "broker.sock"
        async with administered(made(), path):
            assert await asked(path, b"x" * (2 * LINE_BYTES_MAX)) == []
            with monkeypatch.context() as hasty:
                hasty.setattr(admin, "TIMEOUT_S", 0.2)
                silent = [await asyncio.open_unix_connection(str(path)) for _ in range(6)]
                for reader, writer in silent:
                    assert await reader.read() == b""
                    writer.close()
            assert await asked(path, b'{"ask":"sessions"}') == [{"end": 0}]

    asyncio.run(scenario())
