import asyncio
from pathlib import Path

from plantroom.cloud.devices import Devices
from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.views.board import Board
from plantroom.wire import envelope
from plantroom.wire.envelope import Presence
from plantroom.wire.link import Message
from tests.fakes.deliveries import delivery, reading

KEY = ("building-1", "hvac-001")


def presence(topic: str, *, online: bool, epoch: int = 1) -> Message:
    return Message(topic=topic, payload=envelope.encode(Presence(online=online, epoch=epoch)))


def test_births_and_wills_reach_the_board_and_stale_ones_are_counted() -> None:
    board = Board()
    devices = Devices(board)
    topic = "v1/building-1/presence/hvac-001"
    devices.present(presence(topic, online=True, epoch=2), "someone")
    devices.present(presence(topic, online=False, epoch=1), "someone")
    assert board.counts() == (1, 1)
    assert devices.stale_wills == 1


def test_gateways_are_listed_and_cloud_services_are_no_devices() -> None:
    board = Board()
    devices = Devices(board)
    devices.present(presence("v1/building-1/presence/gateway", online=True), "x")
    devices.present(presence("v1/building-2/presence/gateway", online=False), "x")
    devices.present(presence("v1/cloud/presence/ingestion", online=True), "x")
    assert devices.gateways() == [
        {"site": "building-1", "online": True, "since": None},
        {"site": "building-2", "online": False, "since": None},
    ]
    assert len(board.devices()) == 2


def test_rubbish_is_refused_and_changes_nothing() -> None:
    board = Board()
    devices = Devices(board)
    devices.present(Message(topic="v1/building-1/presence/x", payload=b"\xff"), "x")
    devices.present(Message(topic="elsewhere", payload=b""), "x")
    assert board.devices() == []


def test_stored_values_are_shown_again(tmp_path: Path) -> None:
    board = Board()

    async def main() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.commit([delivery([reading(0), reading(1)])])
        await Devices(board).restore(store)
        store.close()

    asyncio.run(main())
    latest = board.point(KEY, "temperature")
    assert latest is not None
    assert (latest.value, latest.seq, latest.unit) == (20.1, 1, "Cel")
