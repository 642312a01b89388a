"""Outgoing: a message in the form in which one receiver gets it, on its current connection."""

from collections.abc import Iterator
from typing import Any

from plantroom.broker import encode
from plantroom.broker.packets import V5, V311, Publish
from plantroom.broker.properties import Property
from plantroom.broker.runs import US_PER_S, Run, expired
from plantroom.broker.tree import Grant


class Outgoing:
    """What a connection's CONNECT says about what may be sent, and the topic aliases in use."""

    __slots__ = ("_aliases", "aliases_max", "packet_bytes_max", "version")

    def __init__(
        self, version: int = V311, *, packet_bytes_max: int = 0, aliases_max: int = 0
    ) -> None:
        self.version = version
        self.packet_bytes_max = packet_bytes_max  # 0: any size
        self.aliases_max = aliases_max
        self._aliases: dict[str, int] = {}

    @property
    def plain(self) -> bool:
        """Whether packets may be passed on as they came."""
        return not (self.packet_bytes_max or self.aliases_max)

    def frame(  # noqa: PLR0913 -- the parts of a packet
        self,
        run: Run,
        message: Publish,
        grant: Grant,
        *,
        now_us: int,
        qos: int = 0,
        packet_id: int = 0,
        dup: bool = False,
    ) -> bytes:
        """Encode a message; empty if it may not be sent, because it is too old or too large."""
        age_us = now_us - run.at_us
        # [MQTT-4.3.3-7]
        if not dup and expired(message, age_us):  # [MQTT-3.3.2-5]
            return b""
        topic, properties, alias = message.topic, {}, 0
        if self.version == V5:
            properties = _properties(message, grant, age_us)
            topic, alias = self._shorten(topic, properties)
        data = encode.publish(
            Publish(
                topic=topic,
                payload=message.payload,
                qos=qos,
                # RETAIN only on retained delivery 3.1.1 [MQTT-3.3.1-8], or as published
                # [MQTT-3.3.1-12], [MQTT-3.3.1-13]
                retain=run.retained or (grant.retain_as_published and message.retain),
                # [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2]
                dup=dup and qos > 0,  # [MQTT-3.3.1-2], [MQTT-3.3.1-3]
                packet_id=packet_id,
                properties=properties,
            ),
            self.version,
        )
        if self.packet_bytes_max and len(data) > self.packet_bytes_max:
            return b""  # [MQTT-3.1.2-24]
        if alias:
            self._aliases[message.topic] = alias
        return data

    def _shorten(self, topic: str, properties: dict[int, Any]) -> tuple[str, int]:
        """Put an alias in, if one may; return what is sent as topic, and an alias that is new."""
        alias = self._aliases.get(topic)
        if alias is not None:
            properties[Property.TOPIC_ALIAS] = alias
            return "", 0
        # [MQTT-3.3.2-11]
        if len(self._aliases) >= self.aliases_max:  # [MQTT-3.1.2-26], [MQTT-3.1.2-27]
            return topic, 0
        properties[Property.TOPIC_ALIAS] = len(self._aliases) + 1
        return topic, len(self._aliases) + 1

    def urgent(self, run: Run, grant: Grant, now_us: int) -> Iterator[bytes]:
        """Encode a run at QoS 0."""
        for message in run.messages():
            data = self.frame(run, message, grant, now_us=now_us)
            if data:
                yield data


def _properties(message: Publish, grant: Grant, age_us: int) -> dict[int, Any]:
    # [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18],
    # [MQTT-3.3.2-20], [MQTT-3.1.3-10]
    properties = dict(message.properties)
    if Property.MESSAGE_EXPIRY in properties:  # [MQTT-3.3.2-6]
        left_s = properties[Property.MESSAGE_EXPIRY] - max(age_us, 0) // US_PER_S
        properties[Property.MESSAGE_EXPIRY] = max(left_s, 0)
    if grant.identifiers:  # [MQTT-3.3.4-3], [MQTT-3.3.4-4]
        properties[Property.SUBSCRIPTION_ID] = grant.identifiers
    return properties
