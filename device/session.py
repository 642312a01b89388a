"""One MQTT connection to the gateway, from its CONNECT to its end: paho-mqtt without its loops.

Answers and messages are collected, never handled inside paho's callbacks. A session is used once:
paho's own resending would know nothing of the outbox.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from plantroom.device.waker import Waker
from plantroom.wire.errors import RefusedError, UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.senml import PACK_BYTES_MAX

PACKET_BYTES_MAX = PACK_BYTES_MAX + 4096
PACKET_OVERHEAD_BYTES = 1024  # topic and properties of a publish
RECEIVE_MAX = 65535
_V5 = 5
_CALLBACKS = tuple(name for name in vars(Client) if name.startswith("on_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect, as whom, and how patiently."""

    host: str
    port: int
    client_id: str
    protocol: int
    keepalive_s: int
    timeout_s: float

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Session:
    """A connected client; every method raises UnreachableError once the connection is lost."""

    def __init__(self, target: Target, context: ssl.SSLContext | None, will: Message) -> None:
        self._target = target
        self._closed = ""
        self._connack: ReasonCode | None = None
        self._subacks: dict[int, list[ReasonCode]] = {}
        self._listening: dict[int, list[str]] = {}
        self.refused: list[str] = []
        self.acks: list[tuple[int, int]] = []  # packet id, reason code
        self.messages: list[tuple[str, bytes]] = []
        self.window, self.bytes_max = RECEIVE_MAX, PACK_BYTES_MAX
        five = target.protocol == _V5
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=target.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if five else True,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = target.timeout_s
        self._client.max_inflight_messages = 0  # the dispatch counts
        if context is not None:
            self._client.tls_set_context(context)
        self._client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def open(self, made: Callable[[], None] = lambda: None) -> None:
        """Connect; `made` is called between the TLS handshake and CONNECT, which takes over.

        Raises:
            RefusedError: when the broker says no; IdentityError when it is not who it should be.
            UnreachableError: when there is no connection, or no CONNACK in time.
        """

        def opened(_client: Client, _data: Any, connection: Any) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made()

        self._client.on_socket_open = opened
        target = self._target
        properties = None
        if target.protocol == _V5:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0
            properties.MaximumPacketSize = PACKET_BYTES_MAX
        deadline_s = time.monotonic() + target.timeout_s
        try:
            options: dict[str, Any] = {"clean_start": True} if properties else {}
            self._client.connect(
                target.host, target.port, target.keepalive_s, properties=properties, **options
            )
        except OSError as error:
            raise UnreachableError(_reason(error), where=str(target)) from error
        while self._connack is None:
            if time.monotonic() > deadline_s:
                self.abort()
                raise UnreachableError("no CONNACK in time", where=str(target))
            self.step(0.1)
        if self._connack.is_failure:
            self.abort()
            raise RefusedError(
                f"broker refuses: {self._connack}",
                reason=str(self._connack).lower().replace(" ", "-"),
                where=str(target),
            )

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe at QoS 1 and wait for the answer.

        Raises:
            RefusedError: when the broker says no.
        """
        _, mid = self._client.subscribe(topic_filter, qos=1)
        deadline_s = time.monotonic() + self._target.timeout_s
        while mid not in self._subacks:
            if mid is None or time.monotonic() > deadline_s:
                raise UnreachableError("no SUBACK in time", where=topic_filter)
            self.step(0.1)
        code = self._subacks.pop(mid)[0]
        if code.is_failure:
            raise RefusedError(f"subscription: {code}", reason="subscribe", where=topic_filter)

    def listen(self, topic_filters: Iterable[str]) -> None:
        """Subscribe at QoS 1 without waiting; what the broker refuses is in `refused`."""
        filters = [(topic_filter, 1) for topic_filter in topic_filters]
        code, mid = self._client.subscribe(filters)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            self._raise_closed(f"cannot subscribe: {code.name}")
        self._listening[int(mid or 0)] = [topic_filter for topic_filter, _ in filters]

    def leave(self, topic_filter: str) -> None:
        """Unsubscribe without waiting."""
        self._client.unsubscribe(topic_filter)

    def publish(self, message: Message) -> int:
        """Send at QoS 1 and return the packet id; its answer comes in `acks`."""
        properties = None
        if self._target.protocol == _V5:
            properties = _properties(PacketTypes.PUBLISH)
            if message.content_type:
                properties.ContentType = message.content_type
            if message.user:
                properties.UserProperty = list(message.user.items())
        info = self._client.publish(
            message.topic, message.payload, qos=1, retain=message.retain, properties=properties
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._raise_closed(f"cannot publish: {info.rc.name}")
        return int(info.mid)

    def step(self, timeout_s: float, waker: Waker | None = None) -> None:
        """Wait for the network, or to be woken, and do what there is to do."""
        connection: Any = self._client.socket()
        if connection is None or self._closed:
            self._raise_closed("connection lost")
        poll = select.poll()
        writes = select.POLLOUT if self._client.want_write() else 0
        poll.register(connection, select.POLLIN | writes)
        if waker is not None:
            poll.register(waker.descriptor, select.POLLIN)
        pending = getattr(connection, "pending", int)() > 0
        ready = dict(poll.poll(0 if pending else timeout_s * 1000))
        if waker is not None and ready.pop(waker.descriptor, 0):
            waker.clear()
        events = next(iter(ready.values()), 0)
        if pending or events & ~select.POLLOUT:
            self._check(self._client.loop_read())
        if events & select.POLLOUT:
            self._check(self._client.loop_write())
        self._check(self._client.loop_misc())

    def close(self) -> None:
        """Say DISCONNECT and close; idempotent."""
        if self._client.socket() is not None:
            self._client.disconnect()
            self._client.loop_write()
        self.abort()

    def abort(self) -> None:
        """Close without a word, and let go of what holds this; idempotent.

        In a cycle the connection's TLS state would wait for a full collection, which an agent
        hardly ever makes.
        """
        connection = self._client.socket()
        for name in _CALLBACKS:
            setattr(self._client, name, None)
        self._closed = self._closed or "closed"
        if connection is not None:
            connection.close()

    def _check(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._closed:
            self._raise_closed(f"connection lost ({code.name})")

    def _raise_closed(self, what: str) -> None:
        text = self._closed or what
        self.abort()
        raise UnreachableError(text, where=str(self._target))

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        self._connack = code
        self.window = getattr(properties, "ReceiveMaximum", RECEIVE_MAX)
        largest = getattr(properties, "MaximumPacketSize", PACKET_BYTES_MAX)
        self.bytes_max = min(PACK_BYTES_MAX, largest - PACKET_OVERHEAD_BYTES)

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        by = "the broker" if flags.is_disconnect_packet_from_server else "the network"
        self._closed = self._closed or f"connection ended by {by}: {code}"

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, code: ReasonCode, _properties: Any
    ) -> None:
        self.acks.append((mid, int(code.value)))

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        filters = self._listening.pop(mid, None)
        if filters is None:
            self._subacks[mid] = codes
        else:
            answers = zip(filters, codes, strict=False)
            self.refused += [name for name, code in answers if code.is_failure]

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))


def _properties(packet_type: int) -> Any:
    """Make a property set; attributes of any name may be set, wrong ones raise."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return f"no connection: {error.strerror or error}"
