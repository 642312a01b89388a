"""Clients: every session with what belongs to it, by (SPIFFE ID, client id).

Nobody can reach another's session: the SPIFFE ID in the key is that of the current connection.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from plantroom.broker.deliveries import NO_IDS
from plantroom.broker.guard import ANONYMOUS, Peer
from plantroom.broker.journal import Journal
from plantroom.broker.runs import US_PER_S, Origin, Receiver
from plantroom.broker.session import Session
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sink import (
    SessionDropped,
    SessionSaved,
    SubscriptionDropped,
    SubscriptionSaved,
)
from plantroom.broker.tree import Grant, Tree
from plantroom.wire.clock import Clock

if TYPE_CHECKING:
    from plantroom.broker.outlets import Outlet
    from plantroom.broker.packets import Publish

FOREVER_S = 0xFFFF_FFFF  # MQTT 5.0 3.1.2.11.2
Key = tuple[str, str]


class Client:
    """A session, its subscriptions, its connection if there is one, and its will."""

    __slots__ = (
        "connection",
        "dropped_seen",
        "ended_us",
        "expiry_s",
        "former",
        "key",
        "no_local",
        "pings",
        "session",
        "subscriptions",
        "will",
        "will_delay_s",
        "will_due_us",
        "will_peer",
    )

    def __init__(self, key: Key, session: Session, expiry_s: int) -> None:
        self.key = key
        self.session = session
        self.expiry_s = expiry_s
        self.ended_us: int | None = None  # wall time at which its last connection ended
        self.connection: Outlet | None = None
        self.subscriptions: dict[str, Grant] = {}
        self.no_local = 0
        self.will: Publish | None = None
        self.will_peer: Peer | None = None  # who has agreed it
        self.will_delay_s = 0
        self.will_due_us: int | None = None  # monotonic: its connection is lost, it waits
        self.dropped_seen = 0
        self.pings = 0  # that are not answered
        self.former: frozenset[int] = NO_IDS  # QoS 2 ids that no connection but former ones used

    def saved(self) -> SessionSaved:
        """Return what is stored of it."""
        return SessionSaved(
            sid=self.session.sid,
            spiffe_id=self.key[0],
            client_id=self.key[1],
            expiry_s=self.expiry_s,
            ended_at_us=self.ended_us,
        )


def options(grant: Grant) -> int:
    """Return a grant as the option byte of SUBSCRIBE."""
    return grant.qos | grant.no_local << 2 | grant.retain_as_published << 3


def grant_of(option_byte: int, identifier: int) -> Grant:
    """Return the grant of an option byte."""
    return Grant(
        qos=option_byte & 3,
        no_local=bool(option_byte & 4),
        retain_as_published=bool(option_byte & 8),
        identifiers=(identifier,) if identifier else (),
    )


class Clients:
    """The registry of sessions."""

    def __init__(
        self, limits: BrokerLimits, clock: Clock, journal: Journal, tree: Tree[Receiver]
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._journal = journal
        self._tree = tree
        self._by_key: dict[Key, Client] = {}
        self._by_sid: dict[int, Client] = {}
        self._owned: dict[str, int] = {}  # sessions by SPIFFE ID
        self._last_sid = 0
        self.on_end: Callable[[Client], None] = lambda client: None  # noqa: ARG005

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._by_key.values()))

    def start(self, boot: int) -> None:
        """Begin to number sessions, so that no number ever comes twice."""
        self._last_sid = boot << 32

    def get(self, key: Key) -> Client | None:
        """Return a session by its owner and client id."""
        return self._by_key.get(key)

    def by_sid(self, sid: int) -> Client | None:
        """Return a session by its number."""
        return self._by_sid.get(sid)

    def next_sid(self) -> int:
        """Return a number that no session has had."""
        self._last_sid += 1
        return self._last_sid

    def full(self, key: Key) -> str:
        """Return the limit that forbids a new session for this key, empty if none does."""
        if key in self._by_key:
            return ""
        if len(self._by_key) >= self._limits.sessions_max:
            return "sessions_max"
        owned = self._owned.get(key[0], 0)
        if key[0] != ANONYMOUS and owned >= self._limits.identity_sessions_max:
            return "identity_sessions_max"
        return ""

    def add(self, key: Key, expiry_s: int, *, sid: int | None = None) -> Client:
        """Make a session, or (with `sid`) one that was stored."""
        origin = Origin(sid if sid is not None else self.next_sid(), *key)
        session = Session(
            origin, durable=expiry_s > 0, limit_bytes=self._limits.session_queue_bytes_max
        )
        client = Client(key, session, expiry_s)
        self._by_key[key] = client
        self._owned[key[0]] = self._owned.get(key[0], 0) + 1
        self._by_sid[session.sid] = client
        return client

    # [MQTT-3.1.2-23], [MQTT-4.1.0-1]
    def save(self, client: Client, *, stored: bool) -> None:
        """Store a session if it is to survive; `stored`: it may have been until now."""
        if client.session.durable:
            self._journal.change(client.saved())
        elif stored:
            self._journal.change(SessionDropped(sid=client.session.sid))

    # [MQTT-3.8.4-3]
    def subscribe(self, client: Client, topic_filter: str, grant: Grant) -> bool:
        """Add or replace a subscription; True if it is new."""
        former = client.subscriptions.get(topic_filter)
        self._set(client, topic_filter, grant)
        if client.session.durable:
            identifier = grant.identifiers[0] if grant.identifiers else 0
            self._journal.bind(
                SubscriptionSaved(
                    sid=client.session.sid,
                    topic_filter=topic_filter,
                    options=options(grant),
                    identifier=identifier,
                ),
                lambda: self._restore(client, topic_filter, former),
            )
        return former is None

    def _restore(self, client: Client, topic_filter: str, former: Grant | None) -> None:
        if former is None:
            self.unsubscribe(client, topic_filter)
        else:
            self._set(client, topic_filter, former)

    def _set(self, client: Client, topic_filter: str, grant: Grant) -> None:
        former = client.subscriptions.get(topic_filter)
        client.no_local += grant.no_local - bool(former and former.no_local)
        client.subscriptions[topic_filter] = grant
        self._tree.add(topic_filter, client.session, grant)

    def restore_subscription(self, saved: SubscriptionSaved) -> None:
        """Put a stored subscription back."""
        client = self._by_sid.get(saved.sid)
        if client is not None:
            self._set(client, saved.topic_filter, grant_of(saved.options, saved.identifier))

    def unsubscribe(self, client: Client, topic_filter: str) -> bool:
        """Remove a subscription; False if there was none."""
        grant = client.subscriptions.pop(topic_filter, None)
        if grant is None:
            return False
        client.no_local -= grant.no_local
        self._tree.remove(topic_filter, client.session)
        if client.session.durable:
            self._journal.change(
                SubscriptionDropped(sid=client.session.sid, topic_filter=topic_filter)
            )
        return True

    def end(self, client: Client) -> None:
        """End a session: nothing of it remains [MQTT-4.1.0-2], 3.1.1 [MQTT-3.1.2-7]."""
        if self._by_key.get(client.key) is not client:
            return
        # [MQTT-4.8.2-5]
        del self._by_key[client.key]
        self._owned[client.key[0]] -= 1
        if not self._owned[client.key[0]]:
            del self._owned[client.key[0]]
        del self._by_sid[client.session.sid]
        for topic_filter in client.subscriptions:
            self._tree.remove(topic_filter, client.session)
        client.subscriptions.clear()
        if client.session.durable:
            self._journal.change(SessionDropped(sid=client.session.sid))
        client.session.discard()
        self.on_end(client)

    def expire(self) -> int:
        """End the sessions whose time without a connection is over; return how many."""
        now_us = self._clock.wall_us()
        over = [
            client
            for client in self._by_key.values()
            if client.ended_us is not None
            and client.expiry_s != FOREVER_S
            and now_us - client.ended_us >= client.expiry_s * US_PER_S
        ]
        for client in over:
            self.end(client)
        return len(over)


def subscription_limit(
    client: Client, topic_filter: str, tree: Tree[Receiver], limits: BrokerLimits
) -> str:
    """Return the limit that forbids one more subscription, empty if none does."""
    if topic_filter in client.subscriptions:
        return ""
    if len(client.subscriptions) >= limits.session_subscriptions_max:
        return "session_subscriptions_max"
    return "subscriptions_max" if tree.size >= limits.subscriptions_max else ""
