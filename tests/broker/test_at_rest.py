import asyncio
from pathlib import Path

import pytest

from plantroom.broker import at_rest
from plantroom.broker.catalog import open_sink
from plantroom.wire.errors import StorageError, UsageError
from tests.broker.harness import DISCONNECT, running


def left_behind(path: Path) -> None:
    """A database with one session, which has something to get, and one retained message."""

    async def scenario() -> None:
        sink, close = open_sink("sqlite", path)
        async with running(sink=sink) as live:
            phone = await live.client("phone", clean=False)
            await phone.subscribe(("a/#", 1), ("c", 0))
            phone.send(DISCONNECT)
            assert await phone.closed()
            other = await live.client("other")
            other.publish("a/b", b"12345", retain=True)
            await other.acknowledged()
        close()

    asyncio.run(scenario())


def test_sessions_and_what_waits_for_them(tmp_path: Path) -> None:
    left_behind(tmp_path / "broker.db")
    (session,) = at_rest.sessions(tmp_path / "broker.db")
    assert (session.client_id, session.connected) == ("phone", False)
    assert set(session.subscriptions) == {"a/#", "c"}
    assert session.queued_bytes > 5


def test_retained_messages_by_filter(tmp_path: Path) -> None:
    left_behind(tmp_path / "broker.db")
    (message,) = at_rest.retained(tmp_path / "broker.db", "a/+")
    assert (message.topic, message.qos, message.payload_bytes) == ("a/b", 1, 5)
    assert at_rest.retained(tmp_path / "broker.db", "c/#") == []
    with pytest.raises(UsageError, match="not the last level"):
        at_rest.retained(tmp_path / "broker.db", "#/a")


def test_what_is_no_brokers_database_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    with pytest.raises(StorageError):
        at_rest.sessions(path)
    assert not path.exists()
    path.write_bytes(b"something else" * 100)
    with pytest.raises(StorageError):
        at_rest.sessions(path)
