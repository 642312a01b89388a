"""The link's message: a value with quiet defaults; the contract of links is in test_mqtt_link."""

import dataclasses

import pytest

from plantroom.wire.link import Message


def test_a_message_is_acknowledged_and_not_retained_unless_said_otherwise() -> None:
    message = Message(topic="v1/s/telemetry/d", payload=b"x")
    assert (message.qos, message.retain, message.content_type) == (1, False, None)
    assert message.user == {}


def test_a_message_never_changes() -> None:
    message = Message(topic="t", payload=b"")
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.topic = "other"  # type: ignore[misc]


def test_messages_do_not_share_their_user_properties() -> None:
    one, other = Message(topic="t", payload=b""), Message(topic="t", payload=b"")
    assert one.user is not other.user
    assert one == other
