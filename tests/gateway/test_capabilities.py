import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from plantroom.gateway.capabilities import Capabilities
from plantroom.views.board import Board
from plantroom.wire import envelope, senml
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Call, Presence, Reply
from plantroom.wire.link import Message


class FakeBridge:
    connected = True

    def __init__(self) -> None:
        class Progress:
            confirmed = 3
            synced_us = 1_790_000_000_000_000

        self.progress = Progress()

    async def sync(self, _timeout_s: float) -> bool:
        self.progress.confirmed += 4
        return True


class Desk:
    """The capabilities with a list in the broker's place."""

    def __init__(self, lab: Any) -> None:
        self.board = Board()
        self.code = 0
        self.given: set[tuple[str, bytes]] = set()
        self.published: list[Message] = []
        self.capabilities = Capabilities(
            site=lab.SITE,
            trust_domain=lab.TRUST_DOMAIN,
            board=self.board,
            bridge=FakeBridge(),  # type: ignore[arg-type]
            publish=self.publish,
            clock=SystemClock(),
            known=self.known,
        )

    async def known(self, device: str, names: Sequence[bytes]) -> bool:
        return any((device, name) in self.given for name in names)

    async def publish(self, message: Message) -> int:
        self.published.append(message)
        return self.code

    def ask(
        self, capability: str, data: Any, caller: str = "hvac-001", reply_to: str | None = None
    ) -> Reply:
        call = Call(
            id="1",
            reply_to=reply_to or f"v1/building-1/reply/{caller}/1",
            timeout_s=1.0,
            idempotency_key=f"{data}",
            data=data,
        )
        topic = f"v1/building-1/call/gateway/{capability}/{caller}"
        message = Message(topic=topic, payload=envelope.encode(call))

        asyncio.run(self.capabilities._handle(message))
        reply: Reply = envelope.decode(self.published[-1].payload, Reply)
        assert self.published[-1].topic == call.reply_to
        return reply


@pytest.fixture
def desk(lab: Any) -> Desk:
    return Desk(lab)


def test_a_reading_is_published_as_an_unnumbered_pack_of_the_callers(desk: Desk, lab: Any) -> None:
    data = {
        "time": "2026-11-22T15:00:00Z",
        "points": {"temperature": {"value": 21.5, "unit": "Cel"}, "on": True},
    }
    assert desk.ask("receive_reading", data).data["accepted"] is True
    [pack, _] = desk.published
    assert pack.topic == "v1/building-1/telemetry/hvac-001"
    [sample] = senml.decode(pack.payload).samples
    assert sample.device == lab.device()
    assert {point.name: point.value for point in sample.points} == {"on": True, "temperature": 21.5}


def test_a_full_queue_is_an_error_that_may_be_retried(desk: Desk) -> None:
    desk.code = 0x97
    assert "queue is full" in str(desk.ask("receive_reading", {"points": {"t": 1}}).error)
    desk.code = 0
    assert desk.ask("receive_reading", {"points": {"t": 1}}).error is None


def test_the_same_call_again_is_not_a_second_reading(desk: Desk) -> None:
    first, again = (desk.ask("receive_reading", {"points": {"t": 1}}) for _ in range(2))
    assert first == again
    assert sum("telemetry" in message.topic for message in desk.published) == 1


@pytest.mark.parametrize(
    ("caller", "data", "error"),
    [
        ("hvac-001", {"device": "energy-001", "points": {"t": 1}}, "only give its own"),
        ("cloud:operator:ann", {"points": {"t": 1}}, "names no device|only give"),
        ("cloud:gateway:building-1", {"device": "hvac-001", "points": {"t": 1}}, "only give"),
        ("hvac-001", {"points": {}}, "no points"),
        ("hvac-001", {"points": {"t": None}}, "number, text or truth"),
        ("hvac-001", {"points": {"t": float("nan")}}, "NaN|finite|number"),
        ("hvac-001", {"points": {"t": 1}, "time": "yesterday"}, "time"),
        ("hvac-001", [], "map"),
    ],
)
def test_a_reading_that_is_not_ones_own_or_not_whole_is_refused(
    desk: Desk, caller: str, data: Any, error: str
) -> None:
    found = desk.ask("receive_reading", data, caller).error
    assert found is not None
    assert any(word in found for word in error.split("|")), found
    assert not any("telemetry" in message.topic for message in desk.published)


def test_a_reading_that_was_given_before_is_not_published_again(desk: Desk, lab: Any) -> None:
    data = {"time": "2026-11-22T15:00:00Z", "points": {"t": 1}}
    assert desk.ask("receive_reading", data).data["duplicates"] == 0
    names = desk.published[0].user["given"].split()
    assert len(names) == 2, "by its key, and by its content"
    desk.capabilities._answers.clear()  # a start
    desk.published.clear()
    desk.given.add((lab.device(), bytes.fromhex(names[1])))
    assert desk.ask("receive_reading", data).data["duplicates"] == 1
    assert not any("telemetry" in message.topic for message in desk.published)


def test_an_operator_may_name_the_device(desk: Desk) -> None:
    data = {"device": "hvac-001", "points": {"t": 1}}
    assert desk.ask("receive_reading", data, "cloud:operator:ann").error is None


def test_a_sensor_that_is_offline_is_told_with_its_error(desk: Desk, lab: Any) -> None:
    desk.board.put(lab.reading(0))
    desk.board.put(lab.reading(0, name="energy-001"))
    desk.board.presence(lab.SITE, "energy-001", Presence(online=True, epoch=1, at_us=lab.NOW_US))
    desk.board.presence(lab.SITE, "energy-001", Presence(online=False, epoch=1))
    found = desk.ask("aggregate_sensors", {}).data
    assert (found["total"], found["online"]) == (2, 1)
    assert found["sensors"]["energy-001"]["status"] == "offline"
    assert "offline since" in found["sensors"]["energy-001"]["error"]
    assert found["sensors"]["hvac-001"]["points"]["temperature"]["value"] == 21.0


def test_a_sync_says_what_it_has_brought(desk: Desk) -> None:
    found = desk.ask("sync_to_cloud", {}).data
    assert found["synced"] == 4
    assert found["cloud"] is True
    assert found["last_sync"].startswith("2026-")


def test_a_reply_goes_nowhere_else(desk: Desk) -> None:
    with pytest.raises(IndexError):
        desk.ask("sync_to_cloud", {}, reply_to="v1/building-1/reply/energy-001/1")


def test_calls_beyond_the_bound_are_dropped(desk: Desk) -> None:
    for _ in range(105):
        desk.capabilities.offer(Message(topic="x", payload=b""), "")
    assert desk.capabilities.dropped == 5
