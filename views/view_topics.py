"""Readable JSON of the latest values on `v1/{site}/view/{device}/{point}`, for MQTT Explorer.

Retained in the broker's memory only, QoS 0, at most one a second a point.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import NoReturn

from plantroom.views.board import Board, Key, Latest
from plantroom.wire import topics
from plantroom.wire.link import Message
from plantroom.wire.rfc3339 import format_us

PERIOD_S = 1.0
CONTENT_TYPE = "application/json"

Publish = Callable[[Message], Awaitable[object]]


class ViewTopics:
    """The stage that follows the board and publishes what has changed on it."""

    def __init__(self, board: Board, publish: Publish, *, period_s: float = PERIOD_S) -> None:
        self._board = board
        self._publish = publish
        self._period_s = period_s

    async def run(self) -> NoReturn:
        """Publish what has changed, then rest for the period, for ever."""
        with self._board.watch() as changes:
            while True:
                for key, points in (await changes.take()).items():
                    await self._show(key, points)
                await asyncio.sleep(self._period_s)

    async def _show(self, key: Key, points: set[str]) -> None:
        for point in sorted(points):
            latest = self._board.point(key, point)
            if latest is not None:
                await self._publish(view_message(key, point, latest))


def view_message(key: Key, point: str, latest: Latest) -> Message:
    """Make the message that shows one value."""
    site, device = key
    time = None if latest.time_us is None else format_us(latest.time_us)
    shown = {"value": latest.value, "unit": latest.unit, "time": time}
    return Message(
        topic=topics.build("view/{device}/{point}", site, device, point),
        payload=json.dumps(shown, ensure_ascii=False).encode(),
        qos=0,
        retain=True,
        content_type=CONTENT_TYPE,
    )
