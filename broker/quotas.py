"""Quotas: what one packet may ask for, beyond its size; each excess names the setting."""

from plantroom.broker.codes import Code
from plantroom.broker.errors import LimitError
from plantroom.broker.filters import check_name, check_size, split_share
from plantroom.broker.packets import Connect, Publish
from plantroom.broker.properties import Properties, Property
from plantroom.broker.settings import BrokerLimits


def check_connect(packet: Connect, limits: BrokerLimits) -> None:
    """Check a CONNECT and its will.

    Raises:
        PacketError: when something of it is too large, or its will's topic is no topic name.
    """
    if len(packet.client_id.encode()) > limits.client_id_bytes_max:
        raise LimitError(
            f"client id is longer than {limits.client_id_bytes_max} bytes",
            limit="client_id_bytes_max",
            code=Code.CLIENT_IDENTIFIER_NOT_VALID,
        )
    check_user_properties(packet.properties, limits)
    if packet.will is not None:
        _check_will(packet.will, limits)


def _check_will(will: Publish, limits: BrokerLimits) -> None:
    check_name(will.topic, limits)
    if len(will.payload) > limits.will_bytes_max:
        raise LimitError(
            f"will of {len(will.payload)} bytes, {limits.will_bytes_max} are allowed",
            limit="will_bytes_max",
            code=Code.PACKET_TOO_LARGE,
        )
    check_user_properties(will.properties, limits)


def check_user_properties(properties: Properties, limits: BrokerLimits) -> None:
    """Check how many user properties there are.

    Raises:
        LimitError: when there are too many.
    """
    if len(properties.get(Property.USER, ())) > limits.user_properties_max:
        raise LimitError(
            f"more than {limits.user_properties_max} user properties", limit="user_properties_max"
        )


def check_filters(count: int, limits: BrokerLimits) -> None:
    """Check how many topic filters one packet has.

    Raises:
        LimitError: when there are too many.
    """
    if count > limits.subscribe_filters_max:
        raise LimitError(
            f"{count} topic filters in one packet, {limits.subscribe_filters_max} are allowed",
            limit="subscribe_filters_max",
        )


def check_filter(topic_filter: str, limits: BrokerLimits) -> None:
    """Check how large one topic filter is; the share's name is not a level of it.

    Raises:
        LimitError: when it is too long or too deep.
    """
    check_size(split_share(topic_filter)[1], limits)


def fits(data: bytes, packet_bytes_max: int) -> bool:
    """Say whether a client takes a packet of this size; 0: any [MQTT-3.1.2-24]."""
    return not packet_bytes_max or len(data) <= packet_bytes_max
