"""The feed: server-sent events with what changes on the board, for a bounded number of browsers.

Each browser merges what it has not been sent yet (see `board`), so a slow one costs no memory and
holds up nobody. The status, every `BEAT_S` or so, tells a page that the connection lives.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from plantroom.views.board import Board, Changes, Key

BROWSERS_MAX = 100
PERIOD_S = 0.25
BEAT_S = 2.0
DEVICES_PER_EVENT = 50

Status = Callable[[], Awaitable[Mapping[str, object]]]


class Feeds:
    """All feeds of one page server; `close` ends them, so that the server can stop at once."""

    def __init__(
        self,
        board: Board,
        status: Status,
        *,
        browsers_max: int = BROWSERS_MAX,
        period_s: float = PERIOD_S,
        beat_s: float = BEAT_S,
    ) -> None:
        self._board = board
        self._status = status
        self._browsers_max = browsers_max
        self._period_s = period_s
        self._beat_s = beat_s
        self._closed = False
        self._asked_s = -beat_s
        self._told: Mapping[str, object] = {}
        self.browsers = 0

    @property
    def full(self) -> bool:
        """Whether one more browser would be too many."""
        return self.browsers >= self._browsers_max

    def close(self) -> None:
        """End every feed."""
        self._closed = True
        self._board.wake()

    async def events(self) -> AsyncIterator[bytes]:
        """Give one browser its events until it goes or the server stops."""
        now = asyncio.get_running_loop().time
        self.browsers += 1
        try:
            with self._board.watch() as changes:
                told_s = -self._beat_s
                while not self._closed:
                    if now() - told_s >= self._beat_s:
                        told_s = now()
                        yield event("status", await self._summary())
                    for part in self._parts(await self._next(changes)):
                        yield event("change", part)
                    await asyncio.sleep(self._period_s)
        finally:
            self.browsers -= 1

    async def _summary(self) -> Mapping[str, object]:
        """Ask for the status once a beat, however many browsers there are."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._asked_s >= self._beat_s / 2:
            self._asked_s = now_s
            self._told = summary(await self._status())
        return self._told

    async def _next(self, changes: Changes) -> Mapping[Key, set[str]]:
        """Wait for changes, or for the next beat."""
        try:
            async with asyncio.timeout(self._beat_s):
                return await changes.take()
        except TimeoutError:
            return {}

    def _parts(self, changed: Mapping[Key, set[str]]) -> list[dict[str, object]]:
        described = [self._board.describe(key, points) for key, points in changed.items()]
        devices = [device for device in described if device is not None]
        return [
            {"devices": devices[at : at + DEVICES_PER_EVENT]}
            for at in range(0, len(devices), DEVICES_PER_EVENT)
        ]


def summary(status: Mapping[str, object]) -> Mapping[str, object]:
    """Leave the books out of a status, and say what they come to: `/api/status` has them whole."""
    books = status.get("books")
    if not isinstance(books, list):
        return status
    ledger = {
        "books": len(books),
        "stored": sum(book.get("count", 0) for book in books),
        "holes": sum(last - first + 1 for book in books for first, last in book.get("holes", ())),
        "quarantined": sum(book.get("quarantined", 0) for book in books),
    }
    return {key: value for key, value in status.items() if key != "books"} | {"ledger": ledger}


def event(name: str, data: Mapping[str, object]) -> bytes:
    """Write one server-sent event; JSON has no bare line break."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
