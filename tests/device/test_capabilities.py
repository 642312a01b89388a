from typing import Any

import pytest

from plantroom.device.capabilities import (
    RANGES_MAX,
    READINGS_MAX,
    Calls,
    read_sensors,
    reading_table,
    renew_epoch,
    resend,
)
from plantroom.device.capabilities import sync_buffered as make_sync
from plantroom.wire import envelope
from plantroom.wire.envelope import Call, Reply
from plantroom.wire.errors import EnvelopeError, UnreachableError
from plantroom.wire.reading import Point, Reading
from tests.fakes.readings import hvac_reading

TOPIC = "v1/building-1/call/hvac-001/count/cloud:operator:ann"


class Asked:
    def __init__(self, **limits: int) -> None:
        self.done: list[Any] = []
        offered = {"count": self.count, "fail": self.fail}
        queue_max, keys_max = limits.get("queue_max", 9), limits.get("keys_max", 9)
        self.calls = Calls(offered, site="building-1", queue_max=queue_max, keys_max=keys_max)
        self.now_s = 50.0

    def count(self, data: Any) -> Any:
        self.done.append(data)
        return len(self.done)

    def fail(self, _data: Any) -> Any:
        raise UnreachableError("nothing there")

    def ask(
        self, name: str = "a", *, topic: str = TOPIC, key: str = "", reply_to: str = ""
    ) -> None:
        call = Call(
            id=name,
            reply_to=reply_to or f"v1/building-1/reply/{topic.rsplit('/', 1)[1]}/{name}",
            timeout_s=5,
            idempotency_key=key,
            data={"n": 1},
        )
        self.calls.receive(topic, envelope.encode(call), self.now_s)

    def replies(self) -> list[tuple[str, Reply]]:
        answers = self.calls.answers(lambda: self.now_s)
        return [(answer.topic, envelope.decode(answer.payload, Reply)) for answer in answers]


def test_call_is_done_and_answered_to_its_caller() -> None:
    asked = Asked()
    asked.ask()
    topic = "v1/building-1/reply/cloud:operator:ann/a"
    assert asked.replies() == [(topic, Reply(id="a", data=1))]
    assert asked.done == [{"n": 1}]
    assert asked.replies() == []


def test_same_key_is_answered_again_but_not_done_again() -> None:
    asked = Asked()
    asked.ask("a", key="k")
    asked.ask("b", key="k")
    assert [reply for _, reply in asked.replies()] == [Reply(id="a", data=1), Reply(id="b", data=1)]
    asked.ask("c", key="k", topic=TOPIC.replace("ann", "bob"))
    assert [reply.data for _, reply in asked.replies()] == [2]  # another caller's key is another


def test_keys_are_bounded() -> None:
    asked = Asked(keys_max=2)
    for key in "xyz":
        asked.ask(key=key)
        asked.replies()
    asked.ask(key="z")
    asked.ask(key="x")
    assert [reply.data for _, reply in asked.replies()] == [3, 4]


def test_call_whose_time_has_passed_is_not_done() -> None:
    asked = Asked()
    asked.ask()
    asked.now_s += 5
    assert asked.replies() == []
    assert asked.done == []


def test_too_many_calls_are_told_to_come_later() -> None:
    asked = Asked(queue_max=1)
    asked.ask("a")
    asked.ask("b")
    replies = dict(reversed(asked.replies()))
    assert sorted(reply.error or "done" for reply in replies.values()) == [
        "busy: ask again later",
        "done",
    ]


def test_failure_and_unknown_capability_are_answers_too() -> None:
    asked = Asked()
    asked.ask("a", topic=TOPIC.replace("count", "fail"), key="k")
    asked.ask("b", topic=TOPIC.replace("count", "dance"))
    (_, failed), (_, unknown) = asked.replies()
    assert failed.error == "nothing there"
    assert unknown.error == "no capability 'dance'; this device offers count, fail"


@pytest.mark.parametrize(
    "reply_to",
    [
        "v1/building-1/reply/other/a",
        "v1/building-1/reply/cloud:operator:ann/b",
        "v1/building-2/reply/cloud:operator:ann/a",
        "v1/building-1/telemetry/hvac-001",
    ],
)
def test_answer_goes_nowhere_but_to_the_caller(reply_to: str) -> None:
    asked = Asked()
    asked.ask(reply_to=reply_to)
    assert asked.replies() == []
    assert asked.calls.bad_total == 1


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xa0", b"x" * (300 * 1024)])
def test_garbage_is_counted(payload: bytes) -> None:
    asked = Asked()
    asked.calls.receive(TOPIC, payload, 0)
    asked.calls.receive("v1/building-1/nowhere", payload, 0)
    assert asked.calls.bad_total == 2


def test_read_sensors_gives_the_fresh_reading() -> None:
    assert read_sensors(lambda: hvac_reading(3))({}) == {
        "reading": {
            "device": "spiffe://building-1.smart.local/agent/hvac-001",
            "epoch": 7,
            "seq": 3,
            "time": "2025-11-22T14:03:00.123456Z",
            "points": {
                "fan_on": {"value": True},
                "power_mode": {"value": "eco"},
                "temperature": {"value": 24.5, "unit": "Cel"},
            },
        }
    }


def test_reading_without_a_clock_says_when_since_boot() -> None:
    reading = Reading(
        device="d", time_us=None, mono_us=5, points=(Point(name="x", unit=None, value=1),),
        epoch=1, seq=0,
    )  # fmt: skip
    assert reading_table(reading)["mono_us"] == 5


def test_sync_buffered_says_what_waits_and_hurries() -> None:
    hurried: list[bool] = []
    readings = tuple(hvac_reading(n) for n in range(READINGS_MAX + 5))
    sync = make_sync(
        lambda count: readings[:count], lambda: len(readings), lambda: hurried.append(True)
    )
    answer = sync({})
    assert (answer["count"], len(answer["readings"])) == (READINGS_MAX + 5, READINGS_MAX)
    assert answer["complete"] is False
    assert hurried == [True]
    reply = envelope.encode(Reply(id="a", data=answer))
    assert len(reply) < envelope.CALL_BYTES_MAX


def test_the_gateway_asks_for_ranges_and_nothing_else_is_understood() -> None:
    asked: list[Any] = []

    def again(epoch: int, ranges: list[tuple[int, int]]) -> dict[str, int]:
        asked.append((epoch, ranges))
        return {"again": 1, "gone": 0}

    capability = resend(again)
    assert capability({"epoch": 7, "ranges": [[0, 4], [9, 9]]}) == {"again": 1, "gone": 0}
    assert asked == [(7, [(0, 4), (9, 9)])]
    for wrong in (
        None,
        {"epoch": 7},
        {"epoch": 7, "ranges": [[4, 0]]},
        {"epoch": 7, "ranges": [[0, 1, 2]]},
        {"epoch": -1, "ranges": [[0, 1]]},
        {"epoch": 7, "ranges": [[0, 1]] * (RANGES_MAX + 1)},
        {"epoch": 7, "ranges": [[0, 2**60]]},
    ):
        with pytest.raises(EnvelopeError):
            capability(wrong)
    assert len(asked) == 1


def test_the_gateway_has_an_epoch_renewed() -> None:
    assert renew_epoch(lambda epoch: epoch + 1)({"epoch": 7}) == {"epoch": 8}
    with pytest.raises(EnvelopeError):
        renew_epoch(lambda epoch: epoch)({"epoch": "7"})
