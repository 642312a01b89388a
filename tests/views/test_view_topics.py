import asyncio
import json
from typing import Any

from plantroom.views.board import Board, Latest
from plantroom.views.view_topics import ViewTopics, view_message
from tests.fakes.deliveries import reading

WAIT_S = 5.0


def test_view_is_readable_json_retained_and_best_effort() -> None:
    latest = Latest(unit="Cel", value=21.5, time_us=1_767_225_600_000_000, epoch=1, seq=0)
    message = view_message(("building-1", "hvac-001"), "temperature", latest)
    assert message.topic == "v1/building-1/view/hvac-001/temperature"
    assert json.loads(message.payload) == {
        "value": 21.5,
        "unit": "Cel",
        "time": "2026-01-01T00:00:00Z",
    }
    assert (message.qos, message.retain) == (0, True)


def test_a_point_is_published_once_a_period_with_its_newest_value() -> None:
    async def main() -> None:
        board = Board()
        sent: asyncio.Queue[Any] = asyncio.Queue()
        stage = ViewTopics(board, sent.put, period_s=0.05)
        running = asyncio.create_task(stage.run())
        board.put(reading(0, a=0.0))
        async with asyncio.timeout(WAIT_S):
            first = await sent.get()
            for seq in range(1, 50):
                board.put(reading(seq, a=float(seq)))
            second = await sent.get()
        running.cancel()
        assert json.loads(first.payload)["value"] == 0.0
        assert json.loads(second.payload)["value"] == 49.0
        assert sent.empty()

    asyncio.run(main())
