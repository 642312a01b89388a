import dataclasses

import pytest

from plantroom.broker.packets import Publish


def test_packets_are_values() -> None:
    message = Publish(topic="a", payload=b"x")
    assert message == Publish(topic="a", payload=b"x", properties={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.topic = "b"  # type: ignore[misc]
