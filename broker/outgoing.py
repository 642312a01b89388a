"""Outgoing: a message in the form in which one receiver gets it, on its current connection."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from plantroom.broker import encode
from plantroom.broker.packets import V5, V311, Publish
from plantroom.broker.properties import NONE, Property
from plantroom.broker.quotas import fits
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
        found = Publish(
            topic=message.topic,
            payload=message.payload,
            qos=qos,
            # RETAIN only on retained delivery 3.1.1 [MQTT-3.3.1-8], or as published
            # [MQTT-3.3.1-12], [MQTT-3.3.1-13]
            retain=run.retained or (grant.retain_as_published and message.retain),
            # [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2]
            dup=dup and qos > 0,  # [MQTT-3.3.1-2], [MQTT-3.3.1-3]
            packet_id=packet_id,
            properties=_properties(message, grant, age_us) if self.version == V5 else NONE,
        )
        data = self._shortened(found) if self.aliases_max else b""
        if not data:
            data = encode.publish(found, self.version)
        return data if fits(data, self.packet_bytes_max) else b""

    def _shortened(self, message: Publish) -> bytes:
        """Encode with an alias; empty if there is none, or if it makes the packet too large."""
        topic = message.topic
        alias = self._aliases.get(topic, 0)
        new = 0 if alias else len(self._aliases) + 1
        # [MQTT-3.3.2-11]
        if new > self.aliases_max:  # [MQTT-3.1.2-26], [MQTT-3.1.2-27]
            return b""
        properties = {**message.properties, Property.TOPIC_ALIAS: alias or new}
        short = replace(message, topic="" if alias else topic, properties=properties)
        data = encode.publish(short, self.version)
        if not fits(data, self.packet_bytes_max):
            return b""  # without it may fit: an alias takes three bytes
        self._aliases[topic] = alias or new
        return data

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
