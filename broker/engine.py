"""The engine: where a publish goes. Owns tree, retained messages, journal, clients and guard."""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from plantroom.broker.audit import Audit
from plantroom.broker.clients import Client, Clients
from plantroom.broker.counters import Counters
from plantroom.broker.doorway import Doorway
from plantroom.broker.encode import PINGRESP
from plantroom.broker.filters import any_matches
from plantroom.broker.guard import Guard
from plantroom.broker.journal import Journal
from plantroom.broker.packets import V5, Publish
from plantroom.broker.parts import Room
from plantroom.broker.retained import Retained, RetainedMessage
from plantroom.broker.runs import Origin, Receiver, Run, canonical
from plantroom.broker.session import Session
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sink import RetainedSaved, Sink
from plantroom.broker.tree import REMEMBERED_TOPIC_MAX, Grant, Tree
from plantroom.broker.walks import Walks
from plantroom.broker.watchers import Watch, Watcher
from plantroom.wire.clock import Clock
from plantroom.wire.policy import DecisionPoint

if TYPE_CHECKING:
    from plantroom.broker.outlets import Reader

LOGGER = logging.getLogger("plantroom.broker.engine")
_KINDS_MAX = 65_536


class Engine:
    """The broker without its sockets."""

    def __init__(  # noqa: PLR0913 -- the parts of a broker
        self,
        *,
        limits: BrokerLimits,
        sink: Sink,
        decisions: DecisionPoint | None,
        clock: Clock,
        taps: Iterable[str],
        volatile: Iterable[str],
    ) -> None:
        self.limits = limits
        self.sink = sink
        self.clock = clock
        self.taps = tuple(taps)
        self.volatile = (*volatile, "$SYS/#")
        self.tree: Tree[Receiver] = Tree()
        self.retained: Retained[RetainedMessage] = Retained()
        self.journal = Journal(
            sink,
            clock,
            depth_bytes_max=limits.commit_depth_bytes_max,
            log_bytes_max=limits.log_bytes_max,
            session_log_bytes_max=limits.session_log_bytes_max,
            gather_s=limits.gather_s,
        )
        self.journal.on_flush = self.flush_all
        self.journal.on_full = self._log_full
        self.journal.on_drop = self._dropped
        self.on_hungry: Callable[[Session], None] = lambda session: None  # noqa: ARG005
        self.clients = Clients(limits, clock, self.journal, self.tree)
        self.walks = Walks(self.retained, self.clients, self.journal, clock)
        self.guard = Guard(decisions, clock)
        self.counters = Counters()
        self.audit = Audit(clock, lines_max=limits.audit_lines_max, lines_s=limits.audit_lines_s)
        self.connections: set[Reader] = set()
        self.room = Room(limits.partial_bytes_max // 2)  # the rest is for small parts
        self.turns = 0  # how often anybody brought something
        self.doorway = Doorway(limits)
        self.hold: int | None = None
        self.now_us = clock.monotonic_us()
        self.epoch = 0  # changes when an answer about holding or time may have changed
        self._kinds: dict[str, tuple[bool, bool]] = {}

    @property
    def generation(self) -> tuple[int, int, int]:
        """Changes whenever what a connection remembers about a topic may be wrong."""
        return (self.tree.generation, self.guard.generation, self.epoch)

    def kind(self, topic: str) -> tuple[bool, bool]:
        """Say whether a topic is tapped, and whether it is volatile."""
        found = self._kinds.get(topic)
        if found is None:
            if len(self._kinds) >= _KINDS_MAX:
                self._kinds.clear()
            found = (any_matches(self.taps, topic), any_matches(self.volatile, topic))
            if len(topic) <= REMEMBERED_TOPIC_MAX:
                self._kinds[topic] = found
        return found

    def set_hold(self, code: int | None) -> None:
        """Refuse publishes on tapped topics with this code, or (None) take them again."""
        self.hold = code
        self.epoch += 1

    def stop_reading(self) -> None:
        """Read nobody until their turn comes: too much waits for the disk."""
        for connection in self.connections:
            if connection.accepted and connection.wait():
                self.journal.pause(connection)

    # -- the log's limit

    def _log_full(self, full: bool) -> None:  # noqa: FBT001 -- the journal's callback
        """Refuse from now on what would have to be logged, or drop; or take it again."""
        self.journal.dropping = full and self.limits.log_full == "drop"
        self.epoch += 1
        if full:
            self.counters.hit("log_bytes_max")
            LOGGER.error("the log has %d bytes: full", self.journal.log_bytes)
        else:
            LOGGER.warning("the log has room again")

    def refuses(self, topic: str, qos: int) -> bool:
        """Say whether a publish would have to be logged while the log is full."""
        if not self.journal.full or self.journal.dropping:
            return False
        tapped, volatile = self.kind(topic)
        if tapped or volatile or not qos:
            return tapped
        match = self.tree.match(topic)
        members = (pair for share in match.shares for pair in share.members.items())
        return any(r.durable and grant.qos for r, grant in (*match.entries, *members))

    def _dropped(self, session: Session, count: int, limit: str) -> None:
        """Count what a session does not get because its queue or the log is full."""
        self.counters.publishes_dropped += count
        self.counters.hit(limit)
        origin = session.origin
        self.audit.note("dropped", origin.publisher, origin.client_id, reason=f"full: {limit}")

    def damaged(self, session: Session, why: str) -> None:
        """Report that a part of a session's queue is lost."""
        self.counters.damaged += 1
        LOGGER.error("messages of session %d are lost: %s", session.sid, why)
        origin = session.origin
        self.audit.note("damaged", origin.publisher, origin.client_id, reason=why)

    # -- publishing

    def publish(
        self,
        origin: Origin,
        message: Publish,
        *,
        version: int = V5,
        raw: bytes = b"",
        client: Client | None = None,
    ) -> None:
        """Route a message that may be published; it is committed with the current group."""
        tapped, volatile = self.kind(message.topic)
        now_us = self.clock.wall_us()
        # [MQTT-3.3.1-8]
        if message.retain:
            self._retain(origin, message, now_us, volatile=volatile)
        if client is not None and client.no_local:
            match = self.tree.match_without(message.topic, client.session)
        else:
            match = self.tree.match(message.topic)
        self.journal.run(
            Run(
                origin,
                raw or canonical(message, version),
                version=version,
                match=match,
                at_us=now_us,
                qos=message.qos,
                tapped=tapped,
                volatile=volatile,
            )
        )

    def retain_limit(self, topic: str, payload: bytes) -> str:
        """Return the limit that forbids to retain this message, empty if none does."""
        if not payload:
            return ""
        former, limits = self.retained.get(topic), self.limits
        if former is None and self.retained.size >= limits.retained_max:
            return "retained_max"
        more_bytes = len(topic) + len(payload) - (former.size_bytes if former else 0)
        if more_bytes > 0 and self.retained.size_bytes + more_bytes > limits.retained_bytes_max:
            return "retained_bytes_max"
        return ""

    def _retain(self, origin: Origin, message: Publish, now_us: int, *, volatile: bool) -> None:
        """Remember or (empty payload) forget it [MQTT-3.3.1-5], [MQTT-3.3.1-6]."""
        topic = message.topic
        value = None
        # [MQTT-3.3.1-7]
        if message.payload:
            self.retained.newest += 1
            value = RetainedMessage(
                message=message,
                origin=origin,
                at_us=now_us,
                volatile=volatile,
                number=self.retained.newest,
            )
        former = self.retained.put(topic, value)
        if volatile:
            return

        def undo() -> None:
            if self.retained.get(topic) is value:
                self.retained.put(topic, former)

        self.journal.bind(
            RetainedSaved(
                topic=topic,
                packet=canonical(message, V5) if value else None,
                publisher=origin.publisher,
                at_us=now_us,
            ),
            undo,
        )

    def forget_retained(self, messages: Iterable[RetainedMessage]) -> None:
        """Forget these, without telling anybody."""
        now_us = self.clock.wall_us()
        for value in messages:
            nothing = Publish(topic=value.message.topic, payload=b"", retain=True)
            self._retain(Origin(0, "broker", ""), nothing, now_us, volatile=value.volatile)

    def watch(self, topic_filter: str, callback: Watch) -> Callable[[], None]:
        """Subscribe in process; return what unsubscribes."""
        watcher = Watcher(callback)
        grant = Grant(qos=2)
        self.tree.add(topic_filter, watcher, grant)
        self.walks.begin(watcher, topic_filter, grant)

        def stop() -> None:
            self.tree.remove(topic_filter, watcher)
            self.walks.forget(watcher)

        return stop

    # -- delivering

    def flush_all(self, sessions: Iterable[Session]) -> None:
        """Send what may be sent to each of these sessions, one write for each."""
        for session in sessions:
            client = self.clients.by_sid(session.sid)
            if client is not None:
                self.flush(client)

    def flush(self, client: Client) -> None:
        """Send what may be sent to one client; cut it off if it reads too slowly."""
        session, connection = client.session, client.connection
        missed = session.dropped - client.dropped_seen
        if missed:
            client.dropped_seen = session.dropped
            self.counters.publishes_dropped += missed
        if connection is None or not session.ready:
            return
        if missed and not session.durable:
            connection.too_slow("its queue is full", "session_queue_bytes_max")
            return
        if connection.blocked:
            self._drop_urgent(session)
            return
        frames = session.pump(self.clock.wall_us())
        if frames:
            connection.write_burst(b"".join(frames))
        if session.hungry:
            self.on_hungry(session)
        else:
            self.pong(client)
        if self.walks:
            self.walks.room(session)

    def ping(self, client: Client) -> None:
        """Answer a PINGREQ behind all that its client has asked for before.

        MQTT does not demand it, but clients take PINGRESP for the end of what they wait for.
        """
        connection = client.connection

        def answer(ok: bool) -> None:  # noqa: ARG001, FBT001 -- the journal's callback
            if client.connection is connection:
                client.pings += 1
                self.flush(client)

        if self.journal.idle:
            answer(ok=True)
        else:
            self.journal.after(answer)

    @staticmethod
    def pong(client: Client) -> None:
        """Send the PINGRESPs that are due [MQTT-3.12.4-1]."""
        if client.pings and client.connection is not None:
            client.connection.write(PINGRESP * client.pings)
        client.pings = 0

    def _drop_urgent(self, session: Session) -> None:
        """QoS 0 does not wait for a client that does not read."""
        self.counters.publishes_dropped += sum(run.count for run, _ in session.urgent)
        session.urgent.clear()

    def progress(self, client: Client) -> None:
        """Remember how far a client has acknowledged, and send on."""
        self.journal.touch(client.session)
        if client.session.pending or client.session.hungry or self.walks:
            self.flush(client)
