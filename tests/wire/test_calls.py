"""Reading calls and answering them: the reply goes to the caller and nowhere else."""

import pytest

from plantroom.wire import calls, envelope
from plantroom.wire.envelope import Call, Reply
from plantroom.wire.errors import EnvelopeError, RefusedError, TopicError
from plantroom.wire.link import Message

TOPIC = "v1/building-1/call/ota/check_update/hvac-001"


def call(reply_to: str = "v1/building-1/reply/hvac-001/7", name: str = "7") -> Message:
    made = Call(id=name, reply_to=reply_to, timeout_s=5.0, idempotency_key="", data={"a": 1})
    return Message(topic=TOPIC, payload=envelope.encode(made))


def test_a_call_is_read_and_answered() -> None:
    asked = calls.read(call())
    assert (asked.site, asked.capability, asked.caller) == (
        "building-1",
        "check_update",
        "hvac-001",
    )
    answer = asked.answer({"update": False})
    assert answer.topic == "v1/building-1/reply/hvac-001/7"
    assert envelope.decode(answer.payload, Reply) == Reply(id="7", data={"update": False})
    assert envelope.decode(asked.answer(error="no").payload, Reply).error == "no"


@pytest.mark.parametrize("reply_to", ["v1/building-1/reply/hvac-002/7", "v1/cloud/view/a/b", ""])
def test_a_reply_that_would_go_elsewhere_is_refused(reply_to: str) -> None:
    with pytest.raises(RefusedError, match="caller alone"):
        calls.read(call(reply_to))


def test_what_is_no_call_is_refused() -> None:
    with pytest.raises(EnvelopeError):
        calls.read(Message(topic=TOPIC, payload=b"x"))
    with pytest.raises(TopicError):
        calls.read(call(name="a/b"))
