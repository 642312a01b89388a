"""Last wills: published when a connection ends without DISCONNECT, at once or after their delay.

They are stored while their connection lives, so that a crash of the broker publishes them too.
Policy has allowed a will at CONNECT and is asked again when it is published: rights may have been
withdrawn since. Only farewells, as presence is, are published in any case: that somebody is gone
has to be known above all when it was cut off.
"""

from collections.abc import Callable

from plantroom.broker.clients import FOREVER_S, Client
from plantroom.broker.engine import Engine
from plantroom.broker.filters import any_matches
from plantroom.broker.guard import Ask, Peer, UndecidedError, absent
from plantroom.broker.packets import V5, Publish
from plantroom.broker.properties import Property
from plantroom.broker.runs import US_PER_S, Origin, canonical, parse_one
from plantroom.broker.sink import WillSaved
from plantroom.wire.policy import Decision

Settle = Callable[[Decision], None]


class Wills:
    """Arms, cancels and publishes wills."""

    def __init__(self, engine: Engine, *, farewells: tuple[str, ...] = ()) -> None:
        self._engine = engine
        self._farewells = farewells
        self._waiting: set[Client] = set()
        self.on_undecided: Callable[[Peer, Ask, Settle], None] = lambda peer, ask, settle: None  # noqa: ARG005
        engine.clients.on_end = self._session_ended

    def arm(self, client: Client, will: Publish | None, peer: Peer) -> None:
        """Take the will (or none) of a new connection; a former one that waits is void."""
        had = client.will is not None
        self._waiting.discard(client)
        client.will_due_us = None
        client.will_delay_s = 0
        client.will = client.will_peer = None
        if will is not None:
            client.will_peer = peer
            client.will_delay_s = int(will.properties.get(Property.WILL_DELAY, 0))
            client.will = _without_delay(will)
            self._engine.journal.change(
                WillSaved(
                    sid=client.session.sid,
                    packet=canonical(client.will, V5),
                    publisher=client.session.origin.publisher,
                    client_id=client.session.origin.client_id,
                    delay_s=client.will_delay_s,
                    serial=peer.principal.serial if peer.principal else "",
                )
            )
        elif had:
            self._forget(client.session.sid)

    def cancel(self, client: Client) -> None:
        """Forget the will of a client that has said goodbye [MQTT-3.14.4-3]."""
        if client.will is not None:
            client.will = client.will_peer = None
            self._forget(client.session.sid)

    def connection_lost(self, client: Client) -> None:
        """Publish, now or later: the connection ended without a goodbye [MQTT-3.1.2-8]."""
        if client.will is None:
            return
        delay_s = client.will_delay_s
        if client.expiry_s != FOREVER_S:
            delay_s = min(delay_s, client.expiry_s)
        if delay_s == 0:
            self._fire(client)
        else:  # [MQTT-3.1.3-9]
            client.will_due_us = self._engine.clock.monotonic_us() + delay_s * US_PER_S
            self._waiting.add(client)

    def _session_ended(self, client: Client) -> None:
        self._waiting.discard(client)
        if client.will is not None and client.will_due_us is not None:
            self._fire(client)

    def tick(self) -> None:
        """Publish the wills whose delay is over."""
        now_us = self._engine.clock.monotonic_us()
        for client in [c for c in self._waiting if (c.will_due_us or 0) <= now_us]:
            self._waiting.discard(client)
            self._fire(client)

    def _fire(self, client: Client) -> None:
        # [MQTT-3.1.2-10]
        will, client.will, client.will_due_us = client.will, None, None
        peer, client.will_peer = client.will_peer, None
        if will is not None and peer is not None:
            self._ask(client.session.origin, will, peer)

    def _ask(self, origin: Origin, will: Publish, peer: Peer) -> None:
        if any_matches(self._farewells, will.topic):
            self._publish(origin, will)
            return
        ask = Ask("publish", will.topic, will.qos, will.retain)

        def settle(decision: Decision) -> None:
            if decision.allow is True:
                self._publish(origin, will)
                return
            self._engine.counters.denied += 1
            self._engine.audit.record("will-denied", peer, topic=will.topic, decision=decision)
            self._forget(origin.sid)

        try:
            decision = self._engine.guard.ask(peer, ask)
        except UndecidedError:
            self.on_undecided(peer, ask, settle)
        else:
            settle(decision)

    def _publish(self, origin: Origin, will: Publish) -> None:
        # Its own no-local subscriptions may have outlived the connection [MQTT-3.8.3-3].
        self._engine.publish(origin, will, client=self._engine.clients.by_sid(origin.sid))
        self._forget(origin.sid)

    def _forget(self, sid: int) -> None:
        self._engine.journal.change(WillSaved(sid=sid, packet=None))

    def recover(self, saved: WillSaved) -> None:
        """Take up a will that was armed when the broker itself died."""
        if saved.packet is None:
            return
        will = parse_one(saved.packet)
        peer = absent(saved.publisher, saved.client_id, saved.serial)
        client = self._engine.clients.by_sid(saved.sid)
        if client is None:
            self._ask(Origin(saved.sid, saved.publisher, saved.client_id), will, peer)
            return
        client.will = will
        client.will_peer = peer
        client.will_delay_s = saved.delay_s
        self.connection_lost(client)


def _without_delay(will: Publish) -> Publish:
    properties = {k: v for k, v in will.properties.items() if k != Property.WILL_DELAY}
    return Publish(
        topic=will.topic,
        payload=will.payload,
        qos=will.qos,
        # [MQTT-3.1.2-14], [MQTT-3.1.2-15]
        retain=will.retain,
        packet_id=1 if will.qos else 0,  # runs hold whole packets
        properties=properties,
    )
