import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from plantroom.broker.access import OneAnswer
from plantroom.broker.admin import administered
from plantroom.broker.memory import MemorySink
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.lab.broker_admin import ask, look, place_in_building, place_of_config
from plantroom.lab.layout import Layout
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import CheckFailedError, ConfigError, UnreachableError
from plantroom.wire.link import Message

WAIT_S = 60.0


@contextmanager
def answering(path: Path) -> Iterator[None]:
    """A broker in a thread, with one retained message."""
    started: Future[None] = Future()
    stop: Future[None] = Future()

    async def main() -> None:
        broker = Broker(
            limits=BrokerLimits(sys_interval_s=0.0),
            store=MemorySink(),
            admit=lambda _: None,
            decisions=OneAnswer(allow=True),
            clock=SystemClock(),
        )
        async with administered(broker, path):
            await broker.publish(
                Message(topic="a/b", payload=b"1", qos=1, retain=True), publisher="me"
            )
            started.set_result(None)
            await asyncio.wrap_future(stop)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="broker")
    thread.start()
    try:
        started.result(WAIT_S)
        yield
    finally:
        stop.set_result(None)
        thread.join(WAIT_S)


def test_rows_of_an_answer_and_its_error(tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    with answering(path):
        assert list(ask(path, "sessions")) == []
        (row,) = ask(path, "retained", "a/#")
        assert (row["topic"], row["publisher"], row["payload_bytes"]) == ("a/b", "me", 1)
        assert list(ask(path, "prune", "a/b")) == [{"forgotten": 1}]
        assert list(ask(path, "retained", "#")) == []
        with pytest.raises(CheckFailedError, match="not the last level"):
            list(ask(path, "retained", "#/a"))


def test_nobody_there_is_not_reachable(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        list(ask(tmp_path / "broker.sock", "sessions"))
    assert caught.value.exit_code == 4


def test_socket_is_found_by_building_and_by_configuration(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert place_in_building(layout, "gateway").socket == layout.gateway / "broker.sock"
    assert place_in_building(layout, "cloud").socket == layout.cloud / "broker.sock"
    assert place_in_building(layout, "cloud").database == layout.cloud / "front.db"
    config = tmp_path / "broker.toml"
    config.write_text('[admin]\nsocket = "/run/b.sock"\n')
    assert place_of_config(config).socket == Path("/run/b.sock")
    config.write_text('[store]\nkind = "memory"\n')
    with pytest.raises(UnreachableError):
        look(place_of_config(config), "sessions")
    config.write_text('[admin]\nsocket = ""\n')
    with pytest.raises(ConfigError, match="empty"):
        place_of_config(config)
