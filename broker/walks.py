"""Walks: what is retained goes to a new subscription a piece at a time, and nobody waits for it.

A piece is in one group of the journal, the first one behind the SUBACK. The next follows when that
group is done, others have had their turn, and its receiver has room for more. A session that is
away gets the rest into its queue, if it is durable. Such a one has in each group how far it is, and
goes on from there after a restart; where a group was not stored, the walk goes back by that piece.
"""

import asyncio
from collections.abc import Iterator

from plantroom.broker.clients import Client, Clients
from plantroom.broker.filters import split_share
from plantroom.broker.journal import Journal
from plantroom.broker.packets import V5
from plantroom.broker.retained import Retained, RetainedMessage
from plantroom.broker.runs import Receiver, Run, canonical, expired
from plantroom.broker.session import Session
from plantroom.broker.sink import WalkSaved
from plantroom.broker.tree import Grant, Match
from plantroom.wire.clock import Clock

PIECE_MESSAGES = 200
PIECE_BYTES = 131_072
PIECE_TOPICS = 2_000  # looked at


class Walk:
    """What is left of one subscription's retained messages."""

    __slots__ = ("match", "newest", "noted", "topic", "topic_filter", "values")

    def __init__(self, topic_filter: str, match: Match[Receiver], newest: int) -> None:
        self.topic_filter = topic_filter
        self.match = match
        self.newest = newest  # what is retained later comes to a subscriber anyway
        self.topic: str | None = ""  # it is up to here; None: through
        self.noted = False  # on the disk
        self.values: Iterator[RetainedMessage | None] = iter(())


class Tour:
    """All walks of one receiver, one after the other."""

    __slots__ = ("messages", "size_bytes", "topics", "waiting", "walks")

    def __init__(self) -> None:
        self.walks: dict[str, Walk] = {}  # by topic filter
        self.waiting = False  # for room
        self.refresh()

    def refresh(self) -> None:
        """Begin a piece."""
        self.messages, self.size_bytes, self.topics = PIECE_MESSAGES, PIECE_BYTES, PIECE_TOPICS

    @property
    def full(self) -> bool:
        """Whether the piece is as large as one may be."""
        return self.messages <= 0 or self.size_bytes <= 0 or self.topics <= 0


class Walks:
    """Sends what is retained to those who subscribe."""

    def __init__(
        self,
        retained: Retained[RetainedMessage],
        clients: Clients,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._retained = retained
        self._clients = clients
        self._journal = journal
        self._clock = clock
        self._tours: dict[Receiver, Tour] = {}

    def __len__(self) -> int:
        return len(self._tours)

    def begin(
        self, receiver: Receiver, topic_filter: str, grant: Grant, *, behind: str | None = None
    ) -> None:
        """Send what is retained to a new subscription, behind what is already on its way.

        With `behind` to one that had all up to this topic when the broker ended.
        """
        # [MQTT-3.8.4-4]
        tour = self._tour(receiver)
        walk = Walk(topic_filter, Match(((receiver, grant),)), self._retained.newest)
        former = tour.walks.get(topic_filter)
        walk.noted = behind is not None or (former is not None and former.noted)
        self._place(walk, behind or "")
        tour.walks[topic_filter] = walk
        if not tour.waiting:
            self._piece(tour)

    def _tour(self, receiver: Receiver) -> Tour:
        tour = self._tours.get(receiver)
        if tour is None:
            tour = self._tours[receiver] = Tour()
            self._then(receiver, tour)
        return tour

    def _place(self, walk: Walk, topic: str) -> None:
        """Let a walk go on behind a topic; from the beginning if that is empty."""
        walk.topic = topic
        values = self._retained.walk(split_share(walk.topic_filter)[1])
        walk.values = _behind(values, topic) if topic else values

    def forget(self, receiver: Receiver) -> None:
        """Send this one nothing more."""
        self._tours.pop(receiver, None)

    def _piece(self, tour: Tour) -> None:
        now_us = self._clock.wall_us()
        while tour.walks and not tour.full:
            topic_filter, walk = next(iter(tour.walks.items()))
            former = walk.topic or ""
            for value in walk.values:
                tour.topics -= 1
                if value is not None:
                    walk.topic = value.message.topic
                    if value.number <= walk.newest:
                        self._send(tour, walk, value, now_us)
                if tour.full:
                    break
            else:
                del tour.walks[topic_filter]
                walk.topic = None
            self._note(walk, former)

    def _note(self, walk: Walk, former: str) -> None:
        """Store with the piece where it ends, if there is more; go back if it is not stored."""
        ((receiver, _),) = walk.match.entries
        more = walk.topic is not None
        if isinstance(receiver, Session) and receiver.durable and (more or walk.noted):
            walk.noted = more
            self._journal.bind(
                WalkSaved(sid=receiver.sid, topic_filter=walk.topic_filter, topic=walk.topic)
            )

        def settle(ok: bool) -> None:  # noqa: FBT001 -- the journal's callback
            if not ok and self._wanted(receiver, walk.topic_filter):
                self._place(walk, former)
                self._tour(receiver).walks.setdefault(walk.topic_filter, walk)

        self._journal.after(settle)

    def _wanted(self, receiver: Receiver, topic_filter: str) -> bool:
        """Whether there still is this subscription; a watcher that has left is forgotten."""
        if not isinstance(receiver, Session):
            return receiver in self._tours
        client = self._clients.by_sid(receiver.sid)
        return client is not None and topic_filter in client.subscriptions

    def _send(self, tour: Tour, walk: Walk, value: RetainedMessage, now_us: int) -> None:
        if expired(value.message, now_us - value.at_us):
            return
        data = canonical(value.message, V5)
        tour.messages -= 1
        tour.size_bytes -= len(data)
        self._journal.run(
            Run(
                value.origin,
                data,
                version=V5,
                match=walk.match,
                at_us=value.at_us,
                qos=value.message.qos,
                volatile=value.volatile,
                retained=True,
            )
        )

    def _then(self, receiver: Receiver, tour: Tour) -> None:
        """Go on when the group is done and others have had their turn."""

        def done(ok: bool) -> None:  # noqa: ARG001, FBT001 -- the journal's callback
            asyncio.get_running_loop().call_soon(self._go_on, receiver, tour)

        self._journal.after(done)

    def _go_on(self, receiver: Receiver, tour: Tour) -> None:
        if self._tours.get(receiver) is not tour:
            return
        client = self._client(receiver, tour)
        if not tour.walks:
            del self._tours[receiver]
            return
        tour.waiting = client is not None and not _has_room(client)
        if not tour.waiting:
            tour.refresh()
            self._piece(tour)
            self._then(receiver, tour)

    def _client(self, receiver: Receiver, tour: Tour) -> Client | None:
        """Return the client of a session; drop the walks of what it is not subscribed to."""
        if not isinstance(receiver, Session):
            return None
        for topic_filter in list(tour.walks):
            if not self._wanted(receiver, topic_filter):
                del tour.walks[topic_filter]
        return self._clients.by_sid(receiver.sid)

    def room(self, receiver: Receiver) -> None:
        """Go on, if this one has waited for room and has it now, or needs none any more."""
        tour = self._tours.get(receiver)
        if tour is not None and tour.waiting:
            self._go_on(receiver, tour)


def _behind(
    values: Iterator[RetainedMessage | None], topic: str
) -> Iterator[RetainedMessage | None]:
    """Leave out what comes no later than a topic, in the order in which they are walked."""
    levels = topic.split("/")
    for value in values:
        yield value if value is not None and value.message.topic.split("/") > levels else None


def _has_room(client: Client) -> bool:
    """Whether more fits into a connection and its session's memory; the log takes it otherwise."""
    session, connection = client.session, client.connection
    if connection is None:
        return True
    little = session.pending_bytes + session.flight_bytes < session.limit_bytes // 4
    return little and not connection.blocked and not session.backlog.behind
