"""In-process subscriptions, and the form that messages have outside the broker."""

import logging
from collections.abc import Callable

from plantroom.broker.packets import Publish
from plantroom.broker.properties import Properties, Property
from plantroom.broker.runs import Run
from plantroom.broker.tree import Grant
from plantroom.wire.link import Message

LOGGER = logging.getLogger("plantroom.broker.watchers")
Watch = Callable[[Message, str], None]


class Watcher:
    """An in-process subscription: called on the loop, after the commit."""

    __slots__ = ("_callback",)
    sid = 0
    ready = True
    durable = False

    def __init__(self, callback: Watch) -> None:
        self._callback = callback

    def reserve(self, count: int) -> int:  # noqa: ARG002 -- a watcher numbers nothing
        """Take no ordinals."""
        return 0

    def offer(self, run: Run, grant: Grant, qos: int, ordinal: int) -> None:  # noqa: ARG002
        """Call back for each message."""
        for message in run.messages():
            try:
                self._callback(to_message(message, retain=run.retained), run.origin.publisher)
            except Exception:  # one message must not stop the broker
                LOGGER.exception("watcher failed on %s", message.topic)


def to_message(message: Publish, *, retain: bool) -> Message:
    """Turn a packet into the form that the rest of the system uses."""
    properties = message.properties
    return Message(
        topic=message.topic,
        payload=message.payload,
        qos=message.qos,
        retain=retain,
        content_type=properties.get(Property.CONTENT_TYPE),
        response_topic=properties.get(Property.RESPONSE_TOPIC),
        correlation=properties.get(Property.CORRELATION),
        expiry_s=properties.get(Property.MESSAGE_EXPIRY),
        user=dict(properties.get(Property.USER, ())),
    )


def from_message(message: Message) -> Publish:
    """Turn a message of the system into a packet (its packet id is the receiver's business)."""
    properties: Properties = {
        name: value
        for name, value in (
            (Property.MESSAGE_EXPIRY, message.expiry_s),
            (Property.CONTENT_TYPE, message.content_type),
            (Property.RESPONSE_TOPIC, message.response_topic),
            (Property.CORRELATION, message.correlation),
            (Property.USER, tuple(message.user.items()) or None),
        )
        if value is not None
    }
    return Publish(
        topic=message.topic,
        payload=message.payload,
        qos=message.qos,
        retain=message.retain,
        packet_id=1 if message.qos else 0,
        properties=properties,
    )
