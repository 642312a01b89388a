"""CONNECT: who it is, whether it may, which session it gets; and what happens when it is gone.

Nothing of any session is touched before identity and policy have said yes.
"""

import logging
from collections.abc import Callable
from typing import Any

from plantroom.broker import decode, encode
from plantroom.broker.clients import Client
from plantroom.broker.codes import Code
from plantroom.broker.connection import Connection
from plantroom.broker.deliveries import NO_IDS
from plantroom.broker.engine import Engine
from plantroom.broker.errors import PacketError
from plantroom.broker.guard import Ask, explain
from plantroom.broker.orphans import orphans
from plantroom.broker.outgoing import Outgoing
from plantroom.broker.packets import V5, V311, Connect
from plantroom.broker.properties import NONE, Property
from plantroom.broker.quotas import check_connect, fits
from plantroom.broker.runs import US_PER_S
from plantroom.broker.wills import Wills
from plantroom.broker.withdrawal import withdraw

_KEEPALIVE_US = 3 * US_PER_S // 2  # one and a half times the interval [MQTT-3.1.2-22]


class Handshake:
    """Connects clients to sessions, and takes them off again."""

    def __init__(self, engine: Engine, wills: Wills) -> None:
        self._engine = engine
        self._wills = wills

    def connect(self, connection: Connection, data: bytes, start: int, end: int) -> None:
        """Handle CONNECT.

        Raises:
            UndecidedError: when policy has not decided yet.
        """
        try:
            packet = decode.connect(data, start, end)
            check_connect(packet, self._engine.limits)
        except PacketError as error:
            connection.version = V5 if decode.peek_version(data, start, end) == V5 else V311
            self._engine.counters.count(error)
            if connection.version == V5 or error.code == Code.UNSUPPORTED_PROTOCOL_VERSION:
                refuse(connection, error.code, str(error))  # [MQTT-3.1.2-2]
            else:
                # 3.1.1 [MQTT-3.1.4-1]
                connection.fail(error.code, str(error))  # 3.1.1: closed without CONNACK
            return
        connection.version = packet.version
        connection.problem_information = bool(packet.properties.get(Property.REQUEST_PROBLEM, 1))
        connection.packet_bytes_max = packet.properties.get(Property.MAXIMUM_PACKET_SIZE, 0)
        self._set_keepalive(connection, packet)
        refusal = self._refusal(connection, packet)
        if refusal is not None:
            refuse(connection, *refusal)
            return
        # [MQTT-3.1.4-1], [MQTT-3.1.4-2]
        self._accept(connection, packet, self._denied_filters(connection, packet))

    def _refusal(self, connection: Connection, packet: Connect) -> tuple[int, str] | None:
        """Return code and reason if this CONNECT is refused."""
        engine, peer = self._engine, connection.peer
        # [MQTT-4.12.0-1], [MQTT-4.12.0-4]
        if Property.AUTHENTICATION_METHOD in packet.properties:
            return Code.BAD_AUTHENTICATION_METHOD, "no enhanced authentication: the SVID counts"
        if not packet.client_id and packet.version == V311 and not packet.clean_start:
            # 3.1.1 [MQTT-3.1.3-8]
            return Code.CLIENT_IDENTIFIER_NOT_VALID, "empty client id needs a clean session"
        # [MQTT-3.1.3-5]
        if packet.client_id:
            peer.client_id = packet.client_id
        elif not peer.client_id:  # [MQTT-3.1.3-6]; kept when this is looked at again
            peer.client_id = f"auto-{engine.clients.next_sid():x}"
        refusal = self._will_fault(packet) or self._denial(connection, packet)
        if refusal is not None:
            return refusal
        limit = engine.clients.full((peer.spiffe_id, peer.client_id))
        if limit:
            engine.counters.hit(limit)
            return Code.QUOTA_EXCEEDED, "too many sessions"
        if not fits(self._success(connection, packet, present=False), connection.packet_bytes_max):
            return Code.PACKET_TOO_LARGE, "CONNACK is larger than its maximum packet size"
        return None

    @staticmethod
    def _will_fault(packet: Connect) -> tuple[int, str] | None:
        if packet.will is not None and packet.will.topic.startswith("$"):
            return Code.TOPIC_NAME_INVALID, "will: $ topics are the broker's"
        return None

    def _denial(self, connection: Connection, packet: Connect) -> tuple[int, str] | None:
        engine, peer, will = self._engine, connection.peer, packet.will
        asks = [Ask("connect")]
        if will is not None:
            asks.append(Ask("publish", will.topic, will.qos, will.retain))
        for ask, decision in zip(asks, engine.guard.ask_all(peer, asks), strict=True):
            if decision.allow is not True:
                engine.counters.denied += 1
                engine.audit.record("connect-denied", peer, topic=ask.topic, decision=decision)
                what = f"will on {ask.topic}: " if ask.topic else ""
                return Code.NOT_AUTHORIZED, f"{what}{explain(decision)}"
        return None

    def _denied_filters(self, connection: Connection, packet: Connect) -> list[str]:
        """Decide a resumed session's subscriptions again, for the identity that resumes it."""
        peer = connection.peer
        client = self._engine.clients.get((peer.spiffe_id, peer.client_id))
        if client is None or packet.clean_start:
            return []
        asks = [
            Ask("subscribe", topic_filter, grant.qos)
            for topic_filter, grant in client.subscriptions.items()
        ]
        decisions = self._engine.guard.ask_all(peer, asks)
        denied = []
        for ask, decision in zip(asks, decisions, strict=True):
            if decision.allow is not True:
                self._engine.audit.record(
                    "subscription-dropped", peer, topic=ask.topic, decision=decision
                )
                denied.append(ask.topic)
        return denied

    def _expiry_s(self, packet: Connect) -> int:
        maximum = self._engine.limits.session_expiry_s_max
        if packet.version == V311:
            return 0 if packet.clean_start else maximum
        return min(int(packet.properties.get(Property.SESSION_EXPIRY, 0)), maximum)

    def _accept(self, connection: Connection, packet: Connect, denied: list[str]) -> None:
        engine, peer = self._engine, connection.peer
        # [MQTT-3.1.3-2]
        key = (peer.spiffe_id, peer.client_id)
        expiry_s = self._expiry_s(packet)
        client = engine.clients.get(key)
        if client is not None and client.connection is not None:
            # The same client is here again: the older connection goes [MQTT-3.1.4-3].
            client.connection.fail(Code.SESSION_TAKEN_OVER, "session taken over")
            client = engine.clients.get(key)  # gone, if it ended with its connection
        if client is not None and packet.clean_start:  # [MQTT-3.1.2-4]
            engine.clients.end(client)
            client = None
        # [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.1.4-4], [MQTT-3.2.2-2], [MQTT-3.2.2-3]
        present = client is not None
        if client is None:
            client = engine.clients.add(key, expiry_s)
        else:
            stored = client.session.durable
            client.expiry_s = expiry_s
            client.session.durable = expiry_s > 0 or stored
        client.ended_us = None
        client.connection = connection
        connection.client = client
        connection.accepted = True
        connection.through()
        connection.unanswered = 0
        client.former = frozenset(client.session.incoming) or NO_IDS
        for topic_filter in denied:
            withdraw(engine.clients, engine.tree, client, topic_filter)
        engine.clients.save(client, stored=present)
        # [MQTT-3.1.2-7]
        self._wills.arm(client, packet.will, peer)
        answer = self._success(connection, packet, present=present)
        connection.stop()  # [MQTT-3.2.0-1]: what comes behind CONNECT waits until it is answered
        promises = client.session.durable and not present  # what is not stored yet
        engine.journal.after(self._greeter(connection, client, packet, answer, promises=promises))

    def _greeter(
        self,
        connection: Connection,
        client: Client,
        packet: Connect,
        answer: bytes,
        *,
        promises: bool,
    ) -> Callable[[bool], None]:
        """Return what answers CONNECT when its session is stored, or has not to be."""
        engine = self._engine
        outgoing = Outgoing(
            packet.version,
            packet_bytes_max=connection.packet_bytes_max,
            aliases_max=packet.properties.get(Property.TOPIC_ALIAS_MAXIMUM, 0),
        )
        window = min(
            packet.properties.get(Property.RECEIVE_MAXIMUM, 65_535), engine.limits.inflight_max
        )

        def greet(ok: bool) -> None:  # noqa: FBT001 -- the journal's callback
            if client.connection is not connection or not connection.open:
                return
            if promises and not ok:
                self._wills.cancel(client)  # nobody was connected who could be gone
                engine.clients.end(client)
                refuse(connection, Code.QUOTA_EXCEEDED, "storage failed")
                return
            connection.greeted = True  # [MQTT-3.1.4-5], [MQTT-3.2.0-2]
            engine.audit.record("connected", connection.peer, level=logging.INFO)
            connection.write(answer)
            client.session.attach(outgoing, window)
            engine.journal.touch(client.session)
            engine.flush(client)
            connection.go_on()

        return greet

    def _set_keepalive(self, connection: Connection, packet: Connect) -> None:
        """Apply the keep-alive that CONNECT says, or the longest that is served."""
        maximum = self._engine.limits.keepalive_s_max
        keepalive_s = packet.keepalive_s
        if packet.version == V5 and maximum and not 0 < keepalive_s <= maximum:
            keepalive_s = maximum  # [MQTT-3.2.2-21]: told in CONNACK
        # [MQTT-3.2.2-22]
        connection.keepalive_us = keepalive_s * _KEEPALIVE_US

    def _success(self, connection: Connection, packet: Connect, *, present: bool) -> bytes:
        """Return the CONNACK that accepts."""
        return encode.connack(
            session_present=present,
            code=Code.SUCCESS,
            version=packet.version,
            properties=self._answer_properties(connection, packet),
        )

    def _answer_properties(self, connection: Connection, packet: Connect) -> dict[int, Any]:
        if packet.version != V5:
            return {}
        limits, expiry_s = self._engine.limits, self._expiry_s(packet)
        answer: dict[int, Any] = {
            Property.RECEIVE_MAXIMUM: limits.receive_maximum,
            Property.MAXIMUM_PACKET_SIZE: limits.packet_bytes_max,
        }
        if limits.topic_alias_maximum:
            answer[Property.TOPIC_ALIAS_MAXIMUM] = limits.topic_alias_maximum
        if not packet.client_id:
            # [MQTT-3.1.3-7]
            answer[Property.ASSIGNED_CLIENT_ID] = connection.peer.client_id  # [MQTT-3.2.2-16]
        if expiry_s != packet.properties.get(Property.SESSION_EXPIRY, 0):
            answer[Property.SESSION_EXPIRY] = expiry_s
        if connection.keepalive_us != packet.keepalive_s * _KEEPALIVE_US:
            answer[Property.SERVER_KEEP_ALIVE] = connection.keepalive_us // _KEEPALIVE_US
        return answer

    def set_expiry(self, client: Client, expiry_s: int) -> None:
        """DISCONNECT changes how long the session is kept."""
        client.expiry_s = min(expiry_s, self._engine.limits.session_expiry_s_max)

    def connection_ended(self, connection: Connection) -> None:
        """Take the connection off its session; the session stays for its expiry."""
        client = connection.client
        connection.client = None
        if client is None or client.connection is not connection:
            return
        client.connection = None
        client.pings = 0
        left = orphans(client.session) if client.expiry_s == 0 else []
        client.session.detach()
        client.ended_us = self._engine.clock.wall_us()
        self._wills.connection_lost(client)
        if client.expiry_s == 0:
            self._engine.clients.end(client)
            for run in left:
                self._engine.journal.run(run)
        elif client.session.durable:
            self._engine.clients.save(client, stored=True)
            self._engine.journal.touch(client.session)
        self._engine.walks.room(client.session)


def refuse(connection: Connection, code: int, reason: str) -> None:
    """Answer CONNECT with a refusal, and close [MQTT-3.2.2-7]."""
    connection.engine.counters.refused += 1
    connection.engine.audit.record("refused", connection.peer, reason=reason)
    # [MQTT-3.2.2-19]
    told = encode.reason_properties(connection.told(reason)) if connection.version == V5 else NONE
    answer = encode.connack(
        session_present=False, code=code, version=connection.version, properties=told
    )
    if fits(answer, connection.packet_bytes_max):
        connection.write(answer)
    # [MQTT-3.1.3-8], [MQTT-3.1.4-6], [MQTT-4.13.2-1]
    connection.close()
