"""Packets to bytes, for both versions."""

from collections.abc import Sequence

from plantroom.broker.codes import PacketType, connect_return
from plantroom.broker.packets import V5, Publish
from plantroom.broker.primitives import TEXT_BYTES_MAX, binary, varint
from plantroom.broker.properties import NONE, Properties, Property
from plantroom.broker.properties import encode as encode_properties

PINGRESP = b"\xd0\x00"


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + varint(len(body)) + body


def publish(message: Publish, version: int) -> bytes:
    """Encode a PUBLISH."""
    first = PacketType.PUBLISH << 4 | message.dup << 3 | message.qos << 1 | message.retain
    parts = [binary(message.topic.encode())]
    if message.qos:
        parts.append(message.packet_id.to_bytes(2, "big"))
    if version == V5:
        parts.append(encode_properties(message.properties))
    parts.append(message.payload)
    return _packet(first, b"".join(parts))


def reason_properties(reason: str) -> Properties:
    """Make the properties that carry a reason string; none if there is nothing to say."""
    if not reason:
        return NONE
    return {Property.REASON_STRING: reason.encode()[:TEXT_BYTES_MAX].decode(errors="ignore")}


def acknowledgement(
    kind: int, packet_id: int, version: int, *, code: int = 0, reason: str = ""
) -> bytes:
    """Encode PUBACK, PUBREC, PUBREL or PUBCOMP; 3.1.1 has neither code nor reason."""
    first = kind << 4 | (2 if kind == PacketType.PUBREL else 0)  # [MQTT-3.6.1-1]
    number = packet_id.to_bytes(2, "big")
    if version != V5 or (code == 0 and not reason):
        return bytes((first, 2)) + number
    if not reason:
        return bytes((first, 3)) + number + bytes((code,))
    return _packet(first, number + bytes((code,)) + encode_properties(reason_properties(reason)))


def refusals(acknowledgements: bytes, code: int) -> bytes:
    """Turn short acknowledgements (of QoS 1 or 2) into refusals, which only MQTT 5 has."""
    return b"".join(
        bytes((acknowledgements[at], 3, *acknowledgements[at + 2 : at + 4], code))
        for at in range(0, len(acknowledgements), 4)
    )


def connack(*, session_present: bool, code: int, version: int, properties: Properties) -> bytes:
    """Encode CONNACK; session present is 0 with every refusal."""
    # [MQTT-3.2.2-1]
    present = session_present and code == 0  # [MQTT-3.2.2-6], 3.1.1 [MQTT-3.2.2-4]
    if version != V5:
        return bytes((0x20, 2, present, connect_return(code)))
    return _packet(0x20, bytes((present, code)) + encode_properties(properties))


def suback(packet_id: int, codes: Sequence[int], version: int, *, reason: str = "") -> bytes:
    """Encode SUBACK, one code for each filter in order; in 3.1.1 every failure is 0x80."""
    number = packet_id.to_bytes(2, "big")  # [MQTT-3.8.4-2]
    # [MQTT-3.8.4-6], [MQTT-3.9.3-1]
    if version == V5:
        return _packet(0x90, number + encode_properties(reason_properties(reason)) + bytes(codes))
    return _packet(0x90, number + bytes(min(code, 0x80) for code in codes))


def unsuback(packet_id: int, codes: Sequence[int], version: int) -> bytes:
    """Encode UNSUBACK."""
    number = packet_id.to_bytes(2, "big")
    # [MQTT-3.10.4-5], [MQTT-3.11.3-1]
    return _packet(0xB0, number + (b"\0" + bytes(codes) if version == V5 else b""))


def disconnect(code: int, reason: str = "") -> bytes:
    """Encode the DISCONNECT of a server, which only MQTT 5 has."""
    properties = encode_properties(reason_properties(reason)) if reason else b""
    return _packet(0xE0, bytes((code,)) + properties)
