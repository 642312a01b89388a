from plantroom.broker.properties import NONE
from plantroom.broker.watchers import from_message, to_message
from plantroom.wire.link import Message


def test_message_comes_back_as_it_was() -> None:
    message = Message(
        topic="a",
        payload=b"x",
        retain=True,
        content_type="c",
        response_topic="r",
        correlation=b"\0",
        expiry_s=0,
        user={"k": "v"},
    )
    packet = from_message(message)
    assert packet.packet_id, "a run holds whole packets"
    assert to_message(packet, retain=True) == message


def test_plain_message_has_no_properties() -> None:
    packet = from_message(Message(topic="a", payload=b"", qos=0))
    assert packet.properties == NONE
    assert packet.packet_id == 0
