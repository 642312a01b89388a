import json

import pytest

from plantroom.wire import alarm, topics
from plantroom.wire.errors import TopicError


def test_an_alarm_is_retained_json_that_a_person_can_read() -> None:
    message = alarm.raised(
        "building-1", "epoch-reuse", "hvac-001", "two readings", 1_790_000_000_000_000
    )
    assert topics.parse(message.topic).names == ("epoch-reuse", "hvac-001")
    assert message.retain
    assert json.loads(message.payload) == {
        "state": "raised",
        "rule": "epoch-reuse",
        "device": "hvac-001",
        "text": "two readings",
        "at": "2026-09-21T14:13:20Z",
    }


def test_an_alarm_of_what_cannot_be_on_a_topic_is_refused() -> None:
    with pytest.raises(TopicError):
        alarm.raised("building-1", "a/b", "hvac-001", "", 0)
