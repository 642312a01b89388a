import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from plantroom.views.board import Board
from plantroom.views.feed import Feeds, event, summary
from plantroom.wire.envelope import Presence
from tests.fakes.deliveries import reading

WAIT_S = 20.0


async def status() -> dict[str, object]:
    return {"books": [{"count": 3, "holes": [[1, 2]], "quarantined": 1}], "kind": "test"}


def read(chunk: bytes) -> tuple[str, Any]:
    name, data, *_ = chunk.decode().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def following(events: AsyncIterator[bytes], wanted: str) -> Any:
    async with asyncio.timeout(WAIT_S):
        while True:
            name, data = read(await anext(events))
            if name == wanted:
                return data


def test_browser_gets_status_then_everything_then_what_changes() -> None:
    async def main() -> None:
        board = Board()
        board.put(reading(0, a=1.0))
        feeds = Feeds(board, status, period_s=0.001)
        events = feeds.events()
        name, first = read(await anext(events))
        assert (name, first["ledger"]["holes"], "books" in first) == ("status", 2, False)
        everything = await following(events, "change")
        assert everything["devices"][0]["points"]["a"]["value"] == 1.0
        board.put(reading(1, a=2.0))
        changed = await following(events, "change")
        assert changed["devices"][0]["points"]["a"]["value"] == 2.0
        assert feeds.browsers == 1
        await events.aclose()  # type: ignore[attr-defined]
        assert feeds.browsers == 0

    asyncio.run(main())


def test_silent_board_still_says_that_the_connection_lives() -> None:
    async def main() -> None:
        feeds = Feeds(Board(), status, period_s=0.001, beat_s=0.01)
        events = feeds.events()
        for _ in range(3):
            assert (await following(events, "status"))["kind"] == "test"
        await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_close_ends_every_feed() -> None:
    async def main() -> None:
        feeds = Feeds(Board(), status, period_s=0.001)

        async def follow() -> int:
            return len([chunk async for chunk in feeds.events()])

        browsers = [asyncio.create_task(follow()) for _ in range(3)]
        while feeds.browsers < 3:  # noqa: ASYNC110 -- three turns of the loop
            await asyncio.sleep(0)
        feeds.close()
        async with asyncio.timeout(WAIT_S):
            assert await asyncio.gather(*browsers) == [1, 1, 1]

    asyncio.run(main())


def test_large_board_comes_in_parts() -> None:
    async def main() -> None:
        board = Board()
        for number in range(120):
            board.presence("s", f"d{number}", Presence(online=True, epoch=1))
        feeds = Feeds(board, status, period_s=0.001)
        events = feeds.events()
        sizes = [len((await following(events, "change"))["devices"]) for _ in range(3)]
        assert sizes == [50, 50, 20]
        await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_full_says_when_one_more_would_be_too_many() -> None:
    async def main() -> None:
        feeds = Feeds(Board(), status, browsers_max=1)
        assert not feeds.full
        events: Any = feeds.events()
        await anext(events)
        assert feeds.full
        await events.aclose()

    asyncio.run(main())


def test_event_has_no_bare_line_break() -> None:
    assert event("x", {"text": "a\nb"}) == b'event: x\ndata: {"text": "a\\nb"}\n\n'


def test_status_without_books_stays_as_it_is() -> None:
    assert summary({"kind": "x"}) == {"kind": "x"}
