from plantroom.broker import encode
from plantroom.broker.codes import Code, PacketType
from plantroom.broker.packets import Publish


def test_acknowledgements_are_as_short_as_the_version_allows() -> None:
    kind = PacketType.PUBACK
    assert encode.acknowledgement(kind, 1, 5) == b"\x40\x02\x00\x01"
    assert encode.acknowledgement(kind, 1, 5, code=0x97) == b"\x40\x03\x00\x01\x97"
    assert encode.acknowledgement(kind, 1, 4, code=0x97, reason="x") == b"\x40\x02\x00\x01"
    assert encode.acknowledgement(kind, 1, 5, code=0x87, reason="no") == (
        b"\x40\x09\x00\x01\x87\x05\x1f\x00\x02no"
    )
    assert encode.acknowledgement(PacketType.PUBREL, 1, 4) == b"\x62\x02\x00\x01"


def test_connack_speaks_the_clients_version() -> None:
    def answer(code: int, version: int) -> bytes:
        return encode.connack(session_present=True, code=code, version=version, properties={})

    assert answer(0, 4) == b"\x20\x02\x01\x00"
    assert answer(Code.NOT_AUTHORIZED, 4) == b"\x20\x02\x00\x05"
    assert answer(Code.QUOTA_EXCEEDED, 4) == b"\x20\x02\x00\x03"
    assert answer(0, 5) == b"\x20\x03\x01\x00\x00"
    assert answer(Code.BAD_AUTHENTICATION_METHOD, 5) == b"\x20\x03\x00\x8c\x00"


def test_suback_of_mqtt_3_knows_one_failure() -> None:
    assert encode.suback(1, [1, 0x87, 0x8F], 4) == b"\x90\x05\x00\x01\x01\x80\x80"
    assert encode.suback(1, [1, 0x87], 5) == b"\x90\x05\x00\x01\x00\x01\x87"


def test_publish_has_a_packet_id_only_above_qos_0() -> None:
    assert encode.publish(Publish(topic="a", payload=b"x"), 4) == b"\x30\x04\x00\x01ax"
    message = Publish(topic="a", payload=b"x", qos=1, packet_id=258, retain=True, dup=True)
    assert encode.publish(message, 5) == b"\x3b\x07\x00\x01a\x01\x02\x00x"


def test_disconnect_carries_code_and_reason() -> None:
    assert encode.disconnect(0x8E) == b"\xe0\x01\x8e"
    assert encode.disconnect(0x8E, "x") == b"\xe0\x06\x8e\x04\x1f\x00\x01x"
