"""Properties of MQTT 5 (2.2.2): which there are, of which type, in which packet, at most once.

A parsed block is a mapping from property to value; user properties are a tuple of pairs, in order,
and subscription identifiers of a PUBLISH a tuple of numbers.
"""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from plantroom.broker.codes import PacketType
from plantroom.broker.errors import MalformedError, ProtocolError
from plantroom.broker.primitives import (
    binary,
    read_binary,
    read_int,
    read_text,
    read_varint,
    varint,
)

Properties = Mapping[int, Any]
NONE: Properties = MappingProxyType({})
WILL = 0  # the will's properties are a block of their own inside CONNECT


class Property(IntEnum):
    """Identifiers of properties."""

    PAYLOAD_FORMAT = 1
    MESSAGE_EXPIRY = 2
    CONTENT_TYPE = 3
    RESPONSE_TOPIC = 8
    CORRELATION = 9
    SUBSCRIPTION_ID = 11
    SESSION_EXPIRY = 17
    ASSIGNED_CLIENT_ID = 18
    SERVER_KEEP_ALIVE = 19
    AUTHENTICATION_METHOD = 21
    AUTHENTICATION_DATA = 22
    REQUEST_PROBLEM = 23
    WILL_DELAY = 24
    REQUEST_RESPONSE = 25
    RESPONSE_INFORMATION = 26
    SERVER_REFERENCE = 28
    REASON_STRING = 31
    RECEIVE_MAXIMUM = 33
    TOPIC_ALIAS_MAXIMUM = 34
    TOPIC_ALIAS = 35
    MAXIMUM_QOS = 36
    RETAIN_AVAILABLE = 37
    USER = 38
    MAXIMUM_PACKET_SIZE = 39
    WILDCARD_AVAILABLE = 40
    SUBSCRIPTION_ID_AVAILABLE = 41
    SHARED_AVAILABLE = 42


_P = Property
_SIZES = {  # fixed-width integers, in bytes
    _P.PAYLOAD_FORMAT: 1,
    _P.MESSAGE_EXPIRY: 4,
    _P.SESSION_EXPIRY: 4,
    _P.SERVER_KEEP_ALIVE: 2,
    _P.REQUEST_PROBLEM: 1,
    _P.WILL_DELAY: 4,
    _P.REQUEST_RESPONSE: 1,
    _P.RECEIVE_MAXIMUM: 2,
    _P.TOPIC_ALIAS_MAXIMUM: 2,
    _P.TOPIC_ALIAS: 2,
    _P.MAXIMUM_QOS: 1,
    _P.RETAIN_AVAILABLE: 1,
    _P.MAXIMUM_PACKET_SIZE: 4,
    _P.WILDCARD_AVAILABLE: 1,
    _P.SUBSCRIPTION_ID_AVAILABLE: 1,
    _P.SHARED_AVAILABLE: 1,
}
_BINARY = frozenset({_P.CORRELATION, _P.AUTHENTICATION_DATA})
_SWITCHES = frozenset(  # bytes that are 0 or 1
    {
        _P.PAYLOAD_FORMAT,
        _P.REQUEST_PROBLEM,
        _P.REQUEST_RESPONSE,
        _P.MAXIMUM_QOS,
        _P.RETAIN_AVAILABLE,
        _P.WILDCARD_AVAILABLE,
        _P.SUBSCRIPTION_ID_AVAILABLE,
        _P.SHARED_AVAILABLE,
    }
)
_NOT_ZERO = frozenset({_P.RECEIVE_MAXIMUM, _P.MAXIMUM_PACKET_SIZE})
_MESSAGE = frozenset(
    {_P.PAYLOAD_FORMAT, _P.MESSAGE_EXPIRY, _P.CONTENT_TYPE, _P.RESPONSE_TOPIC, _P.CORRELATION}
) | {_P.USER}
_REASON = frozenset({_P.REASON_STRING, _P.USER})
ALLOWED: Mapping[int, frozenset[Property]] = {
    WILL: _MESSAGE | {_P.WILL_DELAY},
    PacketType.CONNECT: frozenset(
        {
            _P.SESSION_EXPIRY,
            _P.RECEIVE_MAXIMUM,
            _P.MAXIMUM_PACKET_SIZE,
            _P.TOPIC_ALIAS_MAXIMUM,
            _P.REQUEST_RESPONSE,
            _P.REQUEST_PROBLEM,
            _P.USER,
            _P.AUTHENTICATION_METHOD,
            _P.AUTHENTICATION_DATA,
        }
    ),
    PacketType.PUBLISH: _MESSAGE | {_P.TOPIC_ALIAS, _P.SUBSCRIPTION_ID},
    PacketType.PUBACK: _REASON,
    PacketType.PUBREC: _REASON,
    PacketType.PUBREL: _REASON,
    PacketType.PUBCOMP: _REASON,
    PacketType.SUBSCRIBE: frozenset({_P.SUBSCRIPTION_ID, _P.USER}),
    PacketType.UNSUBSCRIBE: frozenset({_P.USER}),
    PacketType.DISCONNECT: _REASON | {_P.SESSION_EXPIRY, _P.SERVER_REFERENCE},
    PacketType.AUTH: _REASON | {_P.AUTHENTICATION_METHOD, _P.AUTHENTICATION_DATA},
}


def parse(data: bytes, position: int, end: int, kind: int) -> tuple[Properties, int]:
    """Parse a property block of a packet of `kind`; return it and the position behind it."""
    length, position = read_varint(data, position, end)
    if length == 0:
        return NONE, position
    stop = position + length
    if stop > end:
        raise MalformedError("properties are longer than their packet")
    allowed = ALLOWED[kind]
    found: dict[int, Any] = {}
    users: list[tuple[str, str]] = []  # many may come: never copied for each
    while position < stop:
        name, position = read_varint(data, position, stop)
        if name not in allowed:
            raise MalformedError(f"property {name} is unknown or not allowed here")  # 2.2.2.2
        value, position = _value(name, data, position, stop)
        if name == _P.USER:
            users.append(value)
            found[name] = ()  # its place among the others
        elif name in found:
            raise ProtocolError(f"property {Property(name).name} is given twice")  # 3.1.2.11 ff.
        else:
            found[name] = value
    if users:
        found[_P.USER] = tuple(users)
    return found, position


def _value(name: int, data: bytes, position: int, end: int) -> tuple[Any, int]:
    size = _SIZES.get(Property(name))
    if size is not None:
        value, position = read_int(data, position, end, size)
        if (name in _SWITCHES and value > 1) or (name in _NOT_ZERO and value == 0):
            raise ProtocolError(f"property {Property(name).name} may not be {value}")
        return value, position
    if name == _P.SUBSCRIPTION_ID:
        value, position = read_varint(data, position, end)
        if value == 0:
            raise ProtocolError("subscription identifier 0")  # 3.8.2.1.2
        return value, position
    if name in _BINARY:
        return read_binary(data, position, end)
    if name == _P.USER:
        # [MQTT-1.5.7-1]
        key, position = read_text(data, position, end)
        text, position = read_text(data, position, end)
        return (key, text), position
    # [MQTT-3.3.2-13], [MQTT-3.3.2-19]
    return read_text(data, position, end)


def encode(properties: Properties) -> bytes:
    """Encode a property block with its length."""
    # [MQTT-2.2.2-1]
    if not properties:
        return b"\0"
    parts = [_encode_one(name, value) for name, value in properties.items()]
    body = b"".join(parts)
    return varint(len(body)) + body


def _encode_one(name: int, value: Any) -> bytes:
    tag = bytes((name,))
    size = _SIZES.get(Property(name))
    if size is not None:
        return tag + int(value).to_bytes(size, "big")
    if name == _P.SUBSCRIPTION_ID:
        numbers = value if isinstance(value, tuple) else (value,)
        return b"".join(tag + varint(number) for number in numbers)
    if name == _P.USER:
        return b"".join(tag + binary(key.encode()) + binary(text.encode()) for key, text in value)
    return tag + binary(value if isinstance(value, bytes) else value.encode())
