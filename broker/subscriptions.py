"""SUBSCRIBE and UNSUBSCRIBE: each filter is checked, decided, and answered in its place."""

from plantroom.broker import encode
from plantroom.broker.clients import Client, subscription_limit
from plantroom.broker.codes import Code
from plantroom.broker.connection import Connection
from plantroom.broker.engine import Engine
from plantroom.broker.errors import LimitError
from plantroom.broker.filters import SHARE, filter_fault
from plantroom.broker.guard import Ask, explain
from plantroom.broker.packets import Request, Subscribe, Unsubscribe
from plantroom.broker.quotas import check_filter, check_filters, fits
from plantroom.broker.tree import Grant
from plantroom.wire.policy import Decision


class Subscriptions:
    """Handles both; one for all connections."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def subscribe(self, connection: Connection, client: Client, packet: Subscribe) -> None:
        """Grant what may be granted; what is retained follows the answer."""
        engine = self._engine
        check_filters(len(packet.requests), engine.limits)
        faults = [self._fault(request.topic_filter) for request in packet.requests]
        asks = [
            Ask("subscribe", request.topic_filter, request.qos)
            for request, fault in zip(packet.requests, faults, strict=True)
            if fault is None
        ]
        decisions = iter(engine.guard.ask_all(connection.peer, asks))
        codes: list[int] = []
        reasons: list[str] = []
        granted: list[tuple[Request, bool]] = []
        for request, fault in zip(packet.requests, faults, strict=True):
            if fault is not None:
                code, reason = int(Code.TOPIC_FILTER_INVALID), fault
            else:
                code, reason = self._check(connection, client, request, next(decisions))
            if not reason:
                granted.append((request, self._grant(client, request, packet.identifier)))
            else:
                reasons.append(f"{request.topic_filter}: {reason}")
            codes.append(code)
        text = connection.told("; ".join(reasons), beside_bytes=len(codes))

        def answer(ok: bool) -> None:  # noqa: FBT001 -- the journal's callback
            stored = ok or not client.session.durable
            final = codes if stored else [max(code, Code.UNSPECIFIED_ERROR) for code in codes]
            _send(
                connection, encode.suback(packet.packet_id, final, connection.version, reason=text)
            )

        # [MQTT-3.8.4-1], [MQTT-3.8.4-5]
        engine.journal.after(answer)
        for request, wants in granted:
            if wants:
                grant = client.subscriptions[request.topic_filter]
                engine.walks.begin(client.session, request.topic_filter, grant)

    def _fault(self, topic_filter: str) -> str | None:
        """Say what is wrong with a topic filter, or None."""
        try:
            check_filter(topic_filter, self._engine.limits)
        except LimitError as error:
            self._engine.counters.hit(error.limit)
            return f"topic filter is {error}"
        return filter_fault(topic_filter)

    def _check(
        self, connection: Connection, client: Client, request: Request, decision: Decision
    ) -> tuple[int, str]:
        """Return the code for one filter, and what to say if it is refused."""
        engine, topic_filter = self._engine, request.topic_filter
        if decision.allow is not True:
            engine.counters.denied += 1
            self._engine.audit.record(
                "subscribe-denied", connection.peer, topic=topic_filter, decision=decision
            )
            return Code.NOT_AUTHORIZED, explain(decision)
        limit = subscription_limit(client, topic_filter, engine.tree, engine.limits)
        if limit:
            engine.counters.hit(limit)
            self._engine.audit.record(
                "subscribe-refused", connection.peer, reason="limit", topic=topic_filter
            )
            return Code.QUOTA_EXCEEDED, "too many subscriptions"
        # [MQTT-3.8.4-7]
        return request.qos, ""

    def _grant(self, client: Client, request: Request, identifier: int) -> bool:
        """Subscribe to one filter; return whether it is to get retained messages."""
        grant = Grant(
            qos=request.qos,
            retain_as_published=request.retain_as_published,
            no_local=request.no_local,
            identifiers=(identifier,) if identifier else (),
        )
        new = self._engine.clients.subscribe(client, request.topic_filter, grant)
        # 3.8.3.1: handling 2 sends none, 1 only to a new subscription; shared ones get none
        # [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
        wants = request.retain_handling == 0 or (request.retain_handling == 1 and new)
        return wants and not request.topic_filter.startswith(SHARE)

    def unsubscribe(self, connection: Connection, client: Client, packet: Unsubscribe) -> None:
        """Remove subscriptions."""
        check_filters(len(packet.topic_filters), self._engine.limits)
        codes: list[int] = []
        for topic_filter in packet.topic_filters:
            if self._fault(topic_filter) is not None:
                codes.append(Code.TOPIC_FILTER_INVALID)
            # [MQTT-3.10.4-2], [MQTT-3.10.4-3]
            elif self._engine.clients.unsubscribe(client, topic_filter):  # [MQTT-3.10.4-1]
                codes.append(Code.SUCCESS)
            else:
                codes.append(Code.NO_SUBSCRIPTION_EXISTED)
        # [MQTT-3.10.4-6], [MQTT-2.2.1-6]
        answer = encode.unsuback(packet.packet_id, codes, connection.version)
        self._engine.journal.after(lambda ok: _send(connection, answer))  # noqa: ARG005 -- [MQTT-3.10.4-4]


def _send(connection: Connection, answer: bytes) -> None:
    """Send an answer, or close where it is more than the client takes."""
    if fits(answer, connection.packet_bytes_max):
        connection.write(answer)
    else:
        connection.fail(Code.PACKET_TOO_LARGE, "the answer is larger than its maximum packet size")
