import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from plantroom.cloud.accepted import Accepted
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.ingest_calls import IngestCalls
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.wire import envelope
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Call, Reply
from plantroom.wire.link import Message
from tests.fakes.deliveries import DEVICE

OPERATOR = "cloud:operator:ann"
TIME = "2026-09-21T14:13:20Z"


def reading(value: float = 21.5, **more: Any) -> dict[str, Any]:
    return {"device": DEVICE, "time": TIME, "points": {"temperature": value}} | more


class Desk:
    """Ingestion with a list in the broker's place."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        self.store = SqliteStore(folder / "store.db")
        self.accepted = Accepted(folder / "accepted.db", clock=clock, random_bits=lambda _: 7)
        ingest = Ingest(
            self.store, belongs=belongs_by_name, clock=clock, shown=lambda _readings, _us: None
        )
        self.replies: asyncio.Queue[Message] = asyncio.Queue()
        self.calls = IngestCalls(ingest, self.accepted, publish=self.replies.put, clock=clock)

    async def ask(
        self,
        capability: str,
        data: Any,
        *,
        caller: str = OPERATOR,
        site: str = "cloud",
        key: str = "",
    ) -> Reply:
        name = f"id{id(data)}"
        call = Call(
            id=name,
            reply_to=f"v1/{site}/reply/{caller}/{name}",
            timeout_s=1.0,
            idempotency_key=key,
            data=data,
        )
        topic = f"v1/{site}/call/ingestion/{capability}/{caller}"
        self.calls.offer(Message(topic=topic, payload=envelope.encode(call)), caller)
        async with asyncio.timeout(60):
            reply: Reply = envelope.decode((await self.replies.get()).payload, Reply)
        return reply

    async def stored(self) -> int:
        return sum(book.stored.count for book in await self.store.books())


def play(folder: Path, scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        desk = Desk(folder)
        try:
            task = asyncio.create_task(desk.calls.run())
            await scenario(desk)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        finally:
            desk.store.close()
            desk.accepted.close()

    asyncio.run(main())


def test_a_reading_is_stored_before_the_answer_and_once_also_after_a_start(tmp_path: Path) -> None:
    async def first(desk: Desk) -> None:
        reply = await desk.ask("ingest_reading", reading())
        assert (reply.data["accepted"], reply.data["stored"]) == (True, 1)
        assert await desk.stored() == 1
        reply = await desk.ask("ingest_reading", {"reading": reading()}, key="other")
        assert (reply.data["count"], reply.data["duplicates"]) == (1, 1)

    async def second(desk: Desk) -> None:
        reply = await desk.ask("ingest_reading", reading())
        assert (reply.data["accepted"], reply.data["duplicates"]) == (True, 1)
        assert await desk.stored() == 1

    play(tmp_path, first)
    play(tmp_path, second)


def test_one_key_is_one_reading_even_without_a_time(tmp_path: Path) -> None:
    table = {"device": DEVICE, "points": {"temperature": 20}}

    async def scenario(desk: Desk) -> None:
        for _ in range(3):
            reply = await desk.ask("ingest_reading", table, key="k1")
            assert reply.data["count"] == 1
        assert await desk.stored() == 1
        reply = await desk.ask("ingest_reading", reading(), key="k1")
        assert reply.error is not None
        assert "used for something else" in reply.error
        await desk.ask("ingest_reading", table, key="k2")
        assert await desk.stored() == 2

    play(tmp_path, scenario)


def test_a_batch_says_what_became_of_each(tmp_path: Path) -> None:
    batch = [
        reading(1.0),
        reading(2.0),
        reading(2.0),
        {"device": DEVICE},
        reading(3.0, epoch=5, seq=9),
        reading(4.0, epoch=5, seq=9),
    ]

    async def scenario(desk: Desk) -> None:
        reply = await desk.ask("ingest_batch", {"readings": batch})
        said = reply.data
        assert (said["stored"], said["duplicates"], said["quarantined"]) == (3, 1, 1)
        assert [each["index"] for each in said["rejected"]] == [3]
        assert not said["accepted"]
        assert {"device": DEVICE, "epoch": 5, "seq": 9} in said["readings"]

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("capability", "data", "caller", "site", "error"),
    [
        ("ingest_reading", {"points": {"a": 1}}, OPERATOR, "cloud", "device is not named"),
        ("ingest_reading", reading(device="hvac-001"), OPERATOR, "cloud", "SPIFFE ID"),
        ("ingest_reading", reading(), "hvac-002", "building-1", "only its own"),
        ("ingest_reading", reading(), "hvac-001", "building-2", "only its own"),
        ("ingest_batch", {"readings": []}, OPERATOR, "cloud", "1 to 1000"),
        ("ingest_batch", 3, OPERATOR, "cloud", "1 to 1000"),
        ("forget", {}, OPERATOR, "cloud", "no such capability"),
    ],
)
def test_what_may_not_be_is_refused_by_name(  # noqa: PLR0913, PLR0917 -- a case's columns
    tmp_path: Path, capability: str, data: Any, caller: str, site: str, error: str
) -> None:
    async def scenario(desk: Desk) -> None:
        reply = await desk.ask(capability, data, caller=caller, site=site)
        assert error in str(reply.error)
        assert await desk.stored() == 0

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("caller", "site"), [("hvac-001", "building-1"), ("gateway", "building-1")]
)
def test_a_device_and_its_gateway_may_give_its_readings(
    tmp_path: Path, caller: str, site: str
) -> None:
    async def scenario(desk: Desk) -> None:
        reply = await desk.ask("ingest_reading", reading(), caller=caller, site=site)
        assert reply.data["accepted"]

    play(tmp_path, scenario)
