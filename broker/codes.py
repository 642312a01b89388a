"""The numbers of MQTT: packet types and reason codes (MQTT 5.0 2.1.2, 2.4; 3.1.1 3.2.2.3)."""

from collections.abc import Mapping
from enum import IntEnum


class PacketType(IntEnum):
    """The high four bits of a fixed header."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


# [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2],
# [MQTT-3.11.3-2], [MQTT-3.14.2-1]
class Code(IntEnum):
    """Reason codes of MQTT 5.0."""

    SUCCESS = 0x00
    DISCONNECT_WITH_WILL = 0x04
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    MAXIMUM_CONNECT_TIME = 0xA0


_PUBLISHED = frozenset(b"\x00\x10\x80\x83\x87\x90\x91\x97\x99")
_RELEASED = frozenset(b"\x00\x92")
# What a client may say: 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.14.2.1.
CLIENT_CODES: Mapping[int, frozenset[int]] = {
    PacketType.PUBACK: _PUBLISHED,
    PacketType.PUBREC: _PUBLISHED,
    PacketType.PUBREL: _RELEASED,
    PacketType.PUBCOMP: _RELEASED,
    PacketType.DISCONNECT: frozenset(b"\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99"),
}


class ConnectReturn(IntEnum):
    """CONNACK return codes of MQTT 3.1.1."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    NOT_AUTHORIZED = 5


_RETURNS = {
    Code.SUCCESS: ConnectReturn.ACCEPTED,
    Code.UNSUPPORTED_PROTOCOL_VERSION: ConnectReturn.UNACCEPTABLE_PROTOCOL_VERSION,
    Code.CLIENT_IDENTIFIER_NOT_VALID: ConnectReturn.IDENTIFIER_REJECTED,
    Code.NOT_AUTHORIZED: ConnectReturn.NOT_AUTHORIZED,
    Code.TOPIC_NAME_INVALID: ConnectReturn.NOT_AUTHORIZED,  # of a will: no use in coming again
}


def connect_return(code: int) -> int:
    """Return the MQTT 3.1.1 return code that says the same as this reason code."""
    return _RETURNS.get(Code(code), ConnectReturn.SERVER_UNAVAILABLE)
