"""The link over a real network: MQTT 5 or 3.1.1 through aiomqtt.

A message is acknowledged when its consumer comes back for the next one, so that MQTT 5's Receive
Maximum bounds the queue without losing anything.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from plantroom.wire.errors import IdentityError, PlantroomError, RefusedError, UnreachableError
from plantroom.wire.link import Message
from plantroom.wire.mqtt_client import CONNECT_TIMEOUT_S, FAILURE, AnsweringClient

CLOSE_TIMEOUT_S = 2.0
PACKET_BYTES_MAX = 5 * 1024 * 1024  # an envelope of 4 MiB and its header
INFLIGHT_MAX = 256
_UNREADY_CODES = frozenset({0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F})  # MQTT 5, 3.2.2.2: try again later
_OFFERS = {  # our field: MQTT 5's property
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation": "CorrelationData",
    "expiry_s": "MessageExpiryInterval",
}


class MqttLink:
    """One connection, from `async with` to its loss; whoever wants another makes another.

    `context` is a client context of `plantroom.wire.tls` (it checks who the server is inside the
    handshake); None is plain TCP, for tests. `will` is published by the server when the connection
    ends without a DISCONNECT. At most `incoming_max` messages wait for the consumer: beyond that
    the server waits (QoS 1, MQTT 5), or they are dropped and counted in `dropped` (QoS 0).
    """

    def __init__(  # noqa: PLR0913 -- what a connection is, each with its default
        self,
        host: str,
        port: int,
        client_id: str,
        context: ssl.SSLContext | None,
        *,
        version: int = 5,
        keepalive_s: int = 60,
        clean_start: bool = True,
        session_expiry_s: int = 0,
        will: Message | None = None,
        timeout_s: float = 30.0,
        incoming_max: int = 256,
    ) -> None:
        self.where = f"{host}:{port}"
        self.session_present = False
        self._timeout_s = timeout_s
        self._version = version
        self._make = {
            "hostname": host,
            "port": port,
            "identifier": client_id,
            "keepalive": keepalive_s,
            "timeout": timeout_s,
            "tls_context": context,
            "tls_insecure": None if context is None else True,  # the SPIFFE ID is the name
            "will": None if will is None else _will(will, version),
            "max_inflight_messages": INFLIGHT_MAX,
            "socket_options": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        }
        if version == 5:
            properties = _empty(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = session_expiry_s
            properties.ReceiveMaximum = min(incoming_max, 65535)
            properties.MaximumPacketSize = PACKET_BYTES_MAX
            self._make |= {"clean_start": clean_start, "properties": properties}
        else:
            self._make["clean_session"] = clean_start
        self._make["protocol"] = aiomqtt.ProtocolVersion(version)
        self._incoming_max = incoming_max
        self._client: AnsweringClient | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            RefusedError: when identity or policy says no, on either side.
            UnreachableError: when nobody answers, or not in time.
        """
        self._client = client = AnsweringClient(self._incoming_max, self._make)
        opening = asyncio.create_task(client.__aenter__(), name="wire.link-open")
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # paho connects in a thread that cannot be interrupted, only awaited: CONNECT_TIMEOUT_S.
            client.give_up("cancelled")
            await asyncio.wait([opening], timeout=CONNECT_TIMEOUT_S + CLOSE_TIMEOUT_S)
            client.drop()
            raise
        except (aiomqtt.MqttError, IdentityError) as error:
            client.drop()
            raise _open_error(error, client.last_words(), self.where) from error
        self.session_present = client.session_present
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say DISCONNECT (so that the will is not published) and close, within a bounded time."""
        client = self._connected()
        client.timeout = CLOSE_TIMEOUT_S
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(kind, error, trace)
        client.drop()

    @property
    def dropped(self) -> int:
        """QoS 0 messages that found the queue full."""
        return self._connected().dropped

    async def publish(self, message: Message) -> int:
        """Send, wait for the PUBACK (QoS 1) and return its reason code; see `wire.link.Link`."""
        properties = _properties(message, PacketTypes.PUBLISH) if self._version == 5 else None
        return await self._answer(self._connected().send(message, properties), "PUBACK")

    async def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """Subscribe; see `wire.link.Link`."""
        client = self._connected()
        code = await self._answer(client.ask(topic_filter, qos), "SUBACK")
        if code >= FAILURE:
            name = ReasonCode(PacketTypes.SUBACK, identifier=code).getName()
            raise RefusedError(
                client.words or "the server refuses the subscription",
                reason=_slug(name),
                where=topic_filter,
            )

    async def _answer(self, answer: "asyncio.Future[int]", name: str) -> int:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError as error:
            raise UnreachableError(
                f"no {name} in {self._timeout_s:g} s", where=self.where
            ) from error
        except aiomqtt.MqttError as error:
            raise self._lost() from error

    async def messages(self) -> AsyncIterator[Message]:
        """Give what arrives, in order; asking for the next acknowledges the one before."""
        client = self._connected()
        while (arrived := await client.incoming.get()) is not None:
            yield _message(arrived)
            client.acknowledge(arrived)
        client.incoming.put_nowait(None)  # the end stays the end
        raise self._lost()

    def _lost(self) -> UnreachableError:
        words = self._connected().last_words()
        return UnreachableError(
            f"connection lost{f' ({words})' if words else ''}", where=self.where
        )

    def _connected(self) -> AnsweringClient:
        if self._client is None:
            raise RuntimeError("a link is used inside its `async with`")
        return self._client


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _open_error(error: Exception, words: str, where: str) -> PlantroomError:
    if isinstance(error, IdentityError):
        return error
    cause = error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return IdentityError(
            f"the server's certificate is refused: {cause.verify_message}",
            reason="untrusted",
            where=where,
            remedy="check its trust bundle and both clocks",
        )
    if isinstance(error, MqttConnectError) and isinstance(error.rc, ReasonCode):
        name = error.rc.getName()
        if error.rc.value not in _UNREADY_CODES:
            return RefusedError(
                f"the server refuses the connection: {words or name}",
                reason=_slug(name),
                where=where,
            )
        return UnreachableError(f"the server is not ready: {words or name}", where=where)
    said = words or str(cause or error)
    if "alert" in said.lower():  # TLS 1.3: a client's certificate is refused after its handshake
        return RefusedError(
            f"the server refuses our certificate: {said}",
            reason="certificate",
            where=where,
            remedy="check that it is enrolled, not expired and not revoked",
        )
    return UnreachableError(f"cannot connect: {said}", where=where)


def _will(will: Message, version: int) -> aiomqtt.Will:
    return aiomqtt.Will(
        topic=will.topic,
        payload=will.payload,
        qos=will.qos,
        retain=will.retain,
        properties=_properties(will, PacketTypes.WILLMESSAGE) if version == 5 else None,
    )


def _properties(message: Message, packet: int) -> Properties | None:
    offered = list(_offered(message))
    if not offered and not message.user:
        return None
    properties = _empty(packet)
    for name, value in offered:
        setattr(properties, name, value)
    if message.user:
        properties.UserProperty = list(message.user.items())
    return properties


def _empty(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _offered(message: Message) -> Iterator[tuple[str, Any]]:
    for field, name in _OFFERS.items():
        value = getattr(message, field)
        if value is not None:
            yield name, value


def _message(arrived: MQTTMessage) -> Message:
    properties = arrived.properties
    found = {field: getattr(properties, name, None) for field, name in _OFFERS.items()}
    return Message(
        topic=arrived.topic,
        payload=bytes(arrived.payload),
        qos=arrived.qos,
        retain=arrived.retain,
        user=dict(getattr(properties, "UserProperty", ())),
        **found,
    )
