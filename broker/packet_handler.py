"""What the broker does with each packet of a connected client: the plain path."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from plantroom.broker import encode
from plantroom.broker.clients import Client
from plantroom.broker.codes import Code, PacketType
from plantroom.broker.connection import Connection
from plantroom.broker.engine import Engine
from plantroom.broker.errors import PacketError, ProtocolError
from plantroom.broker.fast_path import count_unanswered
from plantroom.broker.filters import check_name
from plantroom.broker.guard import Ask, explain
from plantroom.broker.handshake import Handshake
from plantroom.broker.packets import (
    V5,
    Acknowledgement,
    Authenticate,
    Disconnect,
    Packet,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
)
from plantroom.broker.properties import Property
from plantroom.broker.quotas import check_user_properties
from plantroom.broker.sink import IncomingSaved, ReleasedSaved
from plantroom.broker.subscriptions import Subscriptions
from plantroom.broker.wills import Wills
from plantroom.wire.policy import Decision

if TYPE_CHECKING:
    from collections.abc import Callable

_ANSWERS = {1: PacketType.PUBACK, 2: PacketType.PUBREC}


class PacketHandler:
    """Handles packets; one for all connections."""

    def __init__(self, engine: Engine, wills: Wills) -> None:
        self._engine = engine
        self._wills = wills
        self._handshake = Handshake(engine, wills)
        self._subscriptions = Subscriptions(engine)
        self.on_suspend: Callable[[Connection], None] = lambda connection: None  # noqa: ARG005

    def suspend(self, connection: Connection) -> None:
        """Get what the connection waits for decided, then let it go on."""
        self.on_suspend(connection)

    def connect(self, connection: Connection, data: bytes, start: int, end: int) -> None:
        """Handle the first packet."""
        self._handshake.connect(connection, data, start, end)

    def connection_ended(self, connection: Connection) -> None:
        """Take a client that is gone off its session."""
        self._handshake.connection_ended(connection)

    def packet(self, connection: Connection, packet: Packet, raw: bytes) -> None:
        """Handle any other packet; `raw`: its bytes, empty where they are not to be passed on.

        Raises:
            PacketError: the connection has to be closed.
            UndecidedError: the packet has to be handled again when that is decided.
        """
        client = connection.client
        if client is None:
            return
        match packet:
            case Publish():
                self._publish(connection, client, packet, raw)
            case Acknowledgement():
                self._acknowledgement(connection, client, packet)
            case Subscribe():
                self._subscriptions.subscribe(connection, client, packet)
            case Unsubscribe():
                self._subscriptions.unsubscribe(connection, client, packet)
            case Ping():
                self._engine.ping(client)
            case Disconnect():
                self._disconnect(connection, client, packet)
            case Authenticate():
                raise ProtocolError("AUTH without an authentication method")  # 4.12
            case _:
                raise ProtocolError("a second CONNECT")  # [MQTT-3.1.0-2]

    # -- PUBLISH

    def _publish(
        self, connection: Connection, client: Client, message: Publish, raw: bytes
    ) -> None:
        engine, limits = self._engine, self._engine.limits
        if Property.TOPIC_ALIAS in message.properties:
            message = _resolve(connection, message, limits.topic_alias_maximum)
            raw = b""
        check_name(message.topic, limits)
        check_user_properties(message.properties, limits)
        if message.topic.startswith("$"):  # 4.7.2: not for clients, and no reason to hang up
            # The code says it all, and some clients take no PUBACK with a reason string.
            self._refuse(connection, message, Code.TOPIC_NAME_INVALID, "$ topics", told=False)
            return
        ask = Ask("publish", message.topic, message.qos, message.retain)
        decision = engine.guard.ask(connection.peer, ask)
        if decision.allow is not True:
            self._deny(connection, message, decision)
            return
        # [MQTT-4.3.3-9]
        if message.qos == 2 and message.packet_id in client.session.incoming:
            self._answer(connection, message)  # [MQTT-4.3.3-10]: seen, not delivered again
            return
        if engine.hold is not None and engine.kind(message.topic)[0]:
            self._full(connection, message, engine.hold)
            return
        if engine.refuses(message.topic, message.qos):
            self._full(connection, message, Code.QUOTA_EXCEEDED)
            return
        if message.retain and (limit := engine.retain_limit(message.topic, message.payload)):
            engine.counters.hit(limit)
            self._full(connection, message, Code.QUOTA_EXCEEDED)
            return
        engine.counters.publishes_received += 1
        if message.qos == 2:
            self._remember(client, message.packet_id)
        engine.publish(
            client.session.origin,
            message,
            version=connection.version,
            raw=raw,
            client=client,
        )
        if message.qos:
            self._answer(connection, message, size_bytes=len(message.payload))

    def _remember(self, client: Client, number: int) -> None:
        """Keep a QoS 2 packet id until PUBREL; it and the message are stored together."""
        session = client.session
        session.incoming.add(number)
        if session.durable:
            self._engine.journal.bind(
                IncomingSaved(sid=session.sid, packet_id=number, open=True),
                lambda: session.incoming.discard(number),
            )
        else:
            self._engine.journal.after(lambda ok: None if ok else session.incoming.discard(number))

    def _answer(self, connection: Connection, message: Publish, *, size_bytes: int = 0) -> None:
        """PUBACK or PUBREC, after the commit and in order [MQTT-4.6.0-2], [MQTT-4.6.0-3]."""
        answer = encode.acknowledgement(
            _ANSWERS[message.qos], message.packet_id, connection.version
        )
        count = 1 if message.qos == 1 else 0
        # [MQTT-3.3.4-1], [MQTT-4.3.2-4], [MQTT-4.3.3-8]
        self._engine.journal.acknowledge(connection, answer, count=count, size_bytes=size_bytes)
        count_unanswered(connection, count)

    def _refuse(
        self,
        connection: Connection,
        message: Publish,
        code: int,
        reason: str,
        *,
        told: bool = True,
    ) -> None:
        """Drop a publish; the client hears of it as far as its protocol can say so."""
        self._engine.audit.record(
            "publish-refused", connection.peer, reason=reason, topic=message.topic
        )
        if message.qos == 0:
            return
        text = connection.told(reason) if told else ""
        answer = encode.acknowledgement(
            _ANSWERS[message.qos], message.packet_id, connection.version, code=code, reason=text
        )
        self._engine.journal.acknowledge(connection, answer, count=0, firm=True)

    def _deny(self, connection: Connection, message: Publish, decision: Decision) -> None:
        self._engine.counters.denied += 1
        self._engine.audit.record(
            "publish-denied", connection.peer, topic=message.topic, decision=decision
        )
        if message.qos == 0:
            return
        # 3.1.1 [MQTT-3.3.5-2]
        if connection.version != V5:  # never acknowledged and dropped
            connection.fail(Code.NOT_AUTHORIZED, f"publish denied: {decision.reason}")
            return
        answer = encode.acknowledgement(
            _ANSWERS[message.qos],
            message.packet_id,
            V5,
            code=Code.NOT_AUTHORIZED,
            reason=connection.told(explain(decision)),
        )
        self._engine.journal.acknowledge(connection, answer, count=0, firm=True)

    def _full(self, connection: Connection, message: Publish, code: int) -> None:
        """Nothing can be stored now: 0x97, or an MQTT 3.1.1 client is held."""
        if connection.version == V5 or message.qos == 0:
            self._refuse(connection, message, code, "storage is full")
        else:
            connection.hold()

    # -- acknowledgements

    def _acknowledgement(
        self, connection: Connection, client: Client, packet: Acknowledgement
    ) -> None:
        session, number, journal = client.session, packet.packet_id, self._engine.journal
        if packet.kind == PacketType.PUBACK:
            session.acknowledge(number)
        elif packet.kind == PacketType.PUBREC:
            self._received(connection, client, packet)
        elif packet.kind == PacketType.PUBREL:
            known = number in session.incoming
            # [MQTT-4.3.3-12], [MQTT-4.3.2-5]
            session.incoming.discard(number)
            if number in client.former:
                client.former -= {number}
            if known and session.durable:
                journal.change(IncomingSaved(sid=session.sid, packet_id=number, open=False))
            code = Code.SUCCESS if known else Code.PACKET_IDENTIFIER_NOT_FOUND
            answer = encode.acknowledgement(
                PacketType.PUBCOMP, number, connection.version, code=code
            )
            journal.acknowledge(connection, answer, count=0)  # [MQTT-4.3.3-11]
        else:
            ordinal = session.complete(number)
            if ordinal is not None and session.durable:
                journal.change(ReleasedSaved(sid=session.sid, ordinal=ordinal, finished=True))
        self._engine.progress(client)

    def _received(self, connection: Connection, client: Client, packet: Acknowledgement) -> None:
        """PUBREC: that it came is stored before PUBREL is sent, so that QoS 2 stays once."""
        session, journal = client.session, self._engine.journal
        number = packet.packet_id
        if not session.awaits(number):
            if packet.code >= Code.UNSPECIFIED_ERROR:  # 4.3.3: nothing more is to come
                return
            answer = encode.acknowledgement(
                PacketType.PUBREL,
                number,
                connection.version,
                code=Code.PACKET_IDENTIFIER_NOT_FOUND,
            )
            connection.write(answer)
            return
        ordinal = session.receive(number, packet.code)
        if ordinal is None:
            return
        if session.durable:
            journal.change(ReleasedSaved(sid=session.sid, ordinal=ordinal, finished=False))
        # [MQTT-4.6.0-4]
        answer = encode.acknowledgement(PacketType.PUBREL, number, connection.version)
        journal.acknowledge(connection, answer, count=0)

    # -- DISCONNECT

    def _disconnect(self, connection: Connection, client: Client, packet: Disconnect) -> None:
        expiry_s = packet.properties.get(Property.SESSION_EXPIRY)
        if expiry_s is not None:
            if client.expiry_s == 0 and expiry_s > 0:  # 3.14.2.2.2
                raise ProtocolError("session expiry was 0 at CONNECT")
            self._handshake.set_expiry(client, expiry_s)
        if packet.code == Code.SUCCESS:
            self._wills.cancel(client)
        self._engine.audit.record("left", connection.peer, level=logging.INFO)
        if self._engine.journal.idle:
            connection.close()  # [MQTT-3.14.4-1]
        else:  # behind the answers to what it had sent before
            connection.stop()
            self._engine.journal.after(lambda ok: connection.close())  # noqa: ARG005


def _resolve(connection: Connection, message: Publish, maximum: int) -> Publish:
    """Replace a topic alias by its topic."""
    alias = message.properties[Property.TOPIC_ALIAS]
    # [MQTT-3.3.2-12]
    if alias > maximum:  # [MQTT-3.3.2-9]
        raise PacketError(f"topic alias {alias}, at most {maximum}", code=Code.TOPIC_ALIAS_INVALID)
    if message.topic:
        connection.aliases[alias] = message.topic
        return message
    topic = connection.aliases.get(alias)
    if topic is None:
        raise ProtocolError(f"topic alias {alias} is unknown")  # 3.3.2.3.4
    return replace(message, topic=topic)
