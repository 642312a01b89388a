import asyncio

import pytest

from plantroom.views.board import Board, Latest, key_of
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import SpiffeIdError
from tests.fakes.deliveries import DEVICE, T0_US, reading

KEY = ("building-1", "hvac-001")


def shown(board: Board, point: str = "temperature") -> Latest:
    latest = board.point(KEY, point)
    assert latest is not None
    return latest


def test_newer_is_the_higher_key_whatever_the_time() -> None:
    board = Board()
    board.put(reading(5, temperature=5.0))
    board.put(reading(4, time_us=T0_US + 10**12, temperature=4.0))
    assert shown(board).value == 5.0
    board.put(reading(0, epoch=2, time_us=T0_US - 1, temperature=2.0))
    assert shown(board).value == 2.0


def test_will_of_another_epoch_than_the_birth_on_record_is_stale() -> None:
    board = Board()
    assert board.presence(*KEY, Presence(online=True, epoch=2, info={"kind": "hvac"}))
    assert not board.presence(*KEY, Presence(online=False, epoch=1))
    assert board.counts() == (1, 1)
    assert board.presence(*KEY, Presence(online=False, epoch=2))
    described = board.describe(KEY)
    assert described is not None
    assert described["online"] is False
    assert described["info"] == {"kind": "hvac"}, "what the birth told stays"


def test_device_heard_of_longest_ago_makes_room() -> None:
    board = Board(devices_max=2)
    for name in ("a", "b", "a", "c"):
        board.put(reading(0, device=f"spiffe://building-1.smart.local/agent/{name}"))
    assert board.devices() == [("building-1", "a"), ("building-1", "c")]
    assert board.forgotten == 1


def test_points_of_a_device_are_bounded() -> None:
    board = Board(points_max=1)
    board.put(reading(0, a=1.0, b=2.0))
    board.put(reading(1, a=3.0, b=4.0))
    assert shown(board, "a").value == 3.0
    assert board.point(KEY, "b") is None


def test_watcher_gets_everything_first_then_changes_merged() -> None:
    async def main() -> None:
        board = Board()
        board.put(reading(0, a=1.0))
        with board.watch() as changes:
            assert await changes.take() == {KEY: {"a"}}
            for seq in range(1, 100):
                board.put(reading(seq, a=float(seq), b=1.0))
            board.presence("building-1", "other", Presence(online=True, epoch=1))
            assert await changes.take() == {KEY: {"a", "b"}, ("building-1", "other"): set()}
            board.wake()
            assert await changes.take() == {}
        board.put(reading(100, a=0.0))  # nobody watches any more

    asyncio.run(main())


def test_describe_gives_times_as_text_and_only_the_points_asked_for() -> None:
    board = Board()
    board.put(reading(0, a=1.0, b=True), seen_us=T0_US)
    described = board.describe(KEY, {"b", "unknown"})
    assert described is not None
    assert described["points"] == {
        "b": {"value": True, "unit": None, "time": "2026-01-01T00:00:00Z", "epoch": 1, "seq": 0}
    }
    assert described["online"] is None
    assert board.describe(("nowhere", "nobody")) is None


def test_restored_value_gives_way_to_a_newer_one() -> None:
    board = Board()
    board.restore(KEY, "a", Latest(unit=None, value=1.0, time_us=None, epoch=1, seq=5))
    board.put(reading(4, a=4.0))
    assert shown(board, "a").value == 1.0
    board.put(reading(6, a=6.0))
    assert shown(board, "a").value == 6.0


def test_key_is_site_and_name() -> None:
    assert key_of(DEVICE) == KEY
    with pytest.raises(SpiffeIdError):
        key_of("nobody")
