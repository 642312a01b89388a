import dataclasses

import pytest

from plantroom.broker.packets import Acknowledgement, Publish


def test_packets_are_values() -> None:
    message = Publish(topic="a", payload=b"x")
    assert message == Publish(topic="a", payload=b"x", properties={})
    with pytest.raises(AttributeError):
        message.anything = 1  # type: ignore[attr-defined]
    answer = Acknowledgement(kind=4, packet_id=1, code=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.code = 1  # type: ignore[misc]
