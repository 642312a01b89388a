"""Bytes from a client to packets: pure, both versions; any bytes give a packet or a PacketError."""

from collections.abc import Mapping

from plantroom.broker.codes import CLIENT_CODES, Code, PacketType
from plantroom.broker.errors import LimitError, MalformedError, ProtocolError
from plantroom.broker.packets import (
    V5,
    V311,
    Acknowledgement,
    Authenticate,
    Connect,
    Disconnect,
    Packet,
    Ping,
    Publish,
    Request,
    Subscribe,
    Unsubscribe,
)
from plantroom.broker.primitives import (
    read_binary,
    read_int,
    read_text,
    read_varint,
    text,
)
from plantroom.broker.properties import NONE, WILL, Properties, Property, parse

Frame = tuple[int, int, int]
# What clients may send beside PUBLISH, with its flags, which are fixed: [MQTT-2.1.3-1],
# [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1].
_FLAGS: Mapping[int, int] = {
    PacketType.CONNECT: 0,
    PacketType.PUBACK: 0,
    PacketType.PUBREC: 0,
    PacketType.PUBREL: 2,
    PacketType.PUBCOMP: 0,
    PacketType.SUBSCRIBE: 2,
    PacketType.UNSUBSCRIBE: 2,
    PacketType.PINGREQ: 0,
    PacketType.DISCONNECT: 0,
    PacketType.AUTH: 0,
}


def frame(data: bytes, position: int, *, packet_bytes_max: int, version: int) -> Frame | int:
    """Find the packet that starts at `position`: `(first byte, body start, body end)`.

    When it is not complete: how many bytes of data are needed, counted from `position`.

    Raises:
        PacketError: when its length is malformed or over the limit.
    """
    have = len(data)
    length = 0
    at = position + 1
    for shift in (0, 7, 14, 21):
        if at >= have:
            return at - position + 1
        byte = data[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            break
    else:
        raise MalformedError("remaining length is longer than four bytes")
    if byte == 0 and shift and version == V5:  # MQTT 3.1.1 does not forbid it
        raise MalformedError("remaining length is not minimal")  # [MQTT-1.5.5-1]
    end = at + length
    if end - position > packet_bytes_max:  # [MQTT-3.2.2-15]
        raise LimitError(
            f"packet of {end - position} bytes, {packet_bytes_max} are allowed",
            limit="packet_bytes_max",
            code=Code.PACKET_TOO_LARGE,
        )
    if end > have:
        return end - position
    return data[position], at, end


def packet(header: int, data: bytes, start: int, end: int, version: int) -> Packet:
    """Parse the body of a packet of a connected client."""
    kind = header >> 4
    if kind == PacketType.PUBLISH:
        return publish(header, data, start, end, version)
    _check_first(kind, header & 15, version)
    if PacketType.PUBACK <= kind <= PacketType.PUBCOMP:
        return _acknowledgement(kind, data, start, end, version)
    if kind == PacketType.SUBSCRIBE:
        return _subscribe(data, start, end, version)
    if kind == PacketType.UNSUBSCRIBE:
        return _unsubscribe(data, start, end, version)
    if kind == PacketType.PINGREQ:
        _nothing_left(start, end)
        return Ping()
    if kind == PacketType.DISCONNECT:
        return _disconnect(data, start, end, version)
    if kind == PacketType.AUTH:
        return Authenticate()
    raise ProtocolError("a second CONNECT")  # [MQTT-3.1.0-2]


def _check_first(kind: int, flags: int, version: int) -> None:
    if kind == 0 or (kind == PacketType.AUTH and version != V5):
        raise MalformedError(f"packet type {kind} is forbidden")
    if kind not in _FLAGS:
        raise ProtocolError(f"packet type {kind} is not for clients to send")
    if flags != _FLAGS[kind]:
        raise MalformedError(f"flags of packet type {kind} are wrong")


def _nothing_left(position: int, end: int) -> None:
    if position != end:
        raise MalformedError("packet has bytes behind its end")


def publish(header: int, data: bytes, start: int, end: int, version: int) -> Publish:
    """Parse a PUBLISH; a topic alias is left to the caller (the topic is empty then)."""
    qos = header >> 1 & 3
    if qos == 3:
        raise MalformedError("QoS 3")  # [MQTT-3.3.1-4]
    dup = bool(header & 8)
    if dup and qos == 0:
        raise MalformedError("DUP at QoS 0")  # [MQTT-3.3.1-2]
    # [MQTT-3.3.2-1], [MQTT-2.2.1-2]
    topic, position = read_text(data, start, end)
    packet_id = 0
    if qos:
        packet_id, position = _packet_id(data, position, end)
    properties: Properties = NONE
    if version == V5:
        properties, position = parse(data, position, end, PacketType.PUBLISH)
        if Property.SUBSCRIPTION_ID in properties:
            raise ProtocolError(
                "PUBLISH of a client has a subscription identifier"
            )  # [MQTT-3.3.4-6]
        if properties.get(Property.TOPIC_ALIAS) == 0:  # [MQTT-3.3.2-8]
            raise ProtocolError("topic alias 0", code=Code.TOPIC_ALIAS_INVALID)
        _check_response(properties)
    return Publish(
        topic=topic,
        payload=data[position:end],
        qos=qos,
        retain=bool(header & 1),
        dup=dup,
        packet_id=packet_id,
        properties=properties,
    )


def _check_response(properties: Properties) -> None:
    response = properties.get(Property.RESPONSE_TOPIC, "x")
    if not response or "#" in response or "+" in response:  # [MQTT-3.3.2-14]
        raise ProtocolError("response topic is empty or has a wildcard")


def _packet_id(data: bytes, position: int, end: int) -> tuple[int, int]:
    packet_id, position = read_int(data, position, end, 2)
    if packet_id == 0:
        raise ProtocolError("packet identifier 0")  # [MQTT-2.2.1-3]
    return packet_id, position


def connect(data: bytes, start: int, end: int) -> Connect:
    """Parse a CONNECT of either version.

    Raises:
        PacketError: with code 0x84 for a protocol or version that is not served.
    """
    name, position = read_binary(data, start, end)
    version, position = read_int(data, position, end, 1)
    if name not in {b"MQTT", b"MQIsdp"}:
        raise ProtocolError("protocol name is not MQTT")  # [MQTT-3.1.2-1]
    if name != b"MQTT" or version not in {V311, V5}:  # [MQTT-3.1.2-2]
        raise ProtocolError(
            f"protocol version {version} is not served", code=Code.UNSUPPORTED_PROTOCOL_VERSION
        )
    if (
        version == V5 and start and data[start - 1] == 0
    ):  # the last byte of a length that is more than 0
        raise MalformedError("remaining length is not minimal")  # [MQTT-1.5.5-1]
    flags, position = read_int(data, position, end, 1)
    _check_flags(flags, version)
    keepalive_s, position = read_int(data, position, end, 2)
    properties: Properties = NONE
    if version == V5:
        properties, position = parse(data, position, end, PacketType.CONNECT)
        if (
            Property.AUTHENTICATION_DATA in properties
            and Property.AUTHENTICATION_METHOD not in properties
        ):
            raise ProtocolError("authentication data without a method")  # 3.1.2.11.10
    # [MQTT-3.1.3-3], [MQTT-3.1.3-4]
    client_id, position = read_text(data, position, end)
    will = None
    # [MQTT-3.1.2-9], [MQTT-3.1.3-11]
    if flags & 4:
        will, position = _will(flags, data, position, end, version)
    # [MQTT-3.1.2-16], [MQTT-3.1.2-17], [MQTT-3.1.2-18], [MQTT-3.1.2-19], [MQTT-3.1.3-12]
    if flags & 0x80:
        _, position = read_text(data, position, end)  # names decide nothing here: the SVID does
    if flags & 0x40:
        _, position = read_binary(data, position, end)
    _nothing_left(position, end)
    return Connect(
        version=version,
        client_id=client_id,
        clean_start=bool(flags & 2),
        keepalive_s=keepalive_s,
        will=will,
        properties=properties,
    )


def _check_flags(flags: int, version: int) -> None:
    if flags & 1:
        raise MalformedError("reserved flag of CONNECT is set")  # [MQTT-3.1.2-3]
    if flags & 4:
        if flags >> 3 & 3 == 3:
            raise MalformedError("will has QoS 3")  # [MQTT-3.1.2-12]
    elif flags & 0x38:
        raise MalformedError("will flags without a will")  # [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    if version == V311 and flags & 0xC0 == 0x40:
        raise MalformedError("password without user name")  # 3.1.1 [MQTT-3.1.2-22]


def _will(flags: int, data: bytes, position: int, end: int, version: int) -> tuple[Publish, int]:
    properties: Properties = NONE
    if version == V5:
        properties, position = parse(data, position, end, WILL)
        _check_response(properties)
    topic, position = read_text(data, position, end)
    payload, position = read_binary(data, position, end)
    will = Publish(
        topic=topic,
        payload=payload,
        qos=flags >> 3 & 3,
        retain=bool(flags & 0x20),
        properties=properties,
    )
    return will, position


def _acknowledgement(kind: int, data: bytes, start: int, end: int, version: int) -> Acknowledgement:
    packet_id, position = _packet_id(data, start, end)
    code = 0
    if version == V5 and position < end:
        code, position = _reason(kind, data, position, end)
        if position < end:
            _, position = parse(data, position, end, kind)
    _nothing_left(position, end)
    return Acknowledgement(kind=kind, packet_id=packet_id, code=code)


def _reason(kind: int, data: bytes, position: int, end: int) -> tuple[int, int]:
    code, position = read_int(data, position, end, 1)
    if code not in CLIENT_CODES[kind]:
        raise MalformedError(f"reason code {code:#04x} is not for packet type {kind}")
    return code, position


def _subscribe(data: bytes, start: int, end: int, version: int) -> Subscribe:
    packet_id, position = _packet_id(data, start, end)
    identifier = 0
    if version == V5:
        properties, position = parse(data, position, end, PacketType.SUBSCRIBE)
        identifier = properties.get(Property.SUBSCRIPTION_ID, 0)
    requests = []
    while position < end:
        # [MQTT-3.8.3-1]
        topic_filter, position = read_text(data, position, end)
        options, position = read_int(data, position, end, 1)
        requests.append(_request(_not_empty(topic_filter), options, version))
    if not requests:
        raise ProtocolError("SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-2]
    return Subscribe(packet_id=packet_id, requests=tuple(requests), identifier=identifier)


def _not_empty(topic_filter: str) -> str:
    if not topic_filter:
        raise MalformedError("topic filter is empty")  # [MQTT-4.7.3-1]
    return topic_filter


def _request(topic_filter: str, options: int, version: int) -> Request:
    reserved = 0xC0 if version == V5 else 0xFC
    if options & reserved or options & 3 == 3:  # [MQTT-3.8.3-5], 3.1.1 [MQTT-3-8.3-4]
        raise MalformedError("subscription options have reserved bits or QoS 3")
    if options >> 4 & 3 == 3:
        raise ProtocolError("retain handling 3")  # 3.8.3.1
    no_local = bool(options & 4)
    if no_local and topic_filter.startswith("$share/"):
        raise ProtocolError("no-local on a shared subscription")  # [MQTT-3.8.3-4]
    return Request(
        topic_filter=topic_filter,
        qos=options & 3,
        no_local=no_local,
        retain_as_published=bool(options & 8),
        retain_handling=options >> 4 & 3,
    )


def _unsubscribe(data: bytes, start: int, end: int, version: int) -> Unsubscribe:
    packet_id, position = _packet_id(data, start, end)
    if version == V5:
        _, position = parse(data, position, end, PacketType.UNSUBSCRIBE)
    topic_filters = []
    while position < end:
        raw, position = read_binary(data, position, end)
        # [MQTT-3.10.3-1]
        topic_filters.append(_not_empty(text(raw)))
    if not topic_filters:
        raise ProtocolError("UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id=packet_id, topic_filters=tuple(topic_filters))


def _disconnect(data: bytes, start: int, end: int, version: int) -> Disconnect:
    code, properties, position = 0, NONE, start
    if version == V5 and position < end:
        code, position = _reason(PacketType.DISCONNECT, data, position, end)
        if position < end:
            properties, position = parse(data, position, end, PacketType.DISCONNECT)
    _nothing_left(position, end)
    return Disconnect(code=code, properties=properties)


def peek_version(data: bytes, start: int, end: int) -> int:
    """Return the version that a CONNECT names, to answer it in its own words, or 0."""
    try:
        _, position = read_binary(data, start, end)
        return read_int(data, position, end, 1)[0]
    except MalformedError:
        return 0


def remaining(data: bytes, position: int) -> tuple[int, int]:
    """Return where the packet at `position` has its body, and where it ends (trusted bytes)."""
    length, start = read_varint(data, position + 1, len(data))
    return start, start + length
