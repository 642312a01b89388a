"""The sink seam: where a group of publishes and session changes is made durable, all or nothing.

`commit` starts the transaction and returns an awaitable; PUBACKs wait for it. Changes are values,
so that every sink can apply them; each can be applied again without harm.
"""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Protocol

from plantroom.broker import segments
from plantroom.broker.segments import StoredRun
from plantroom.wire.errors import StorageCorruptError


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSaved:
    """A durable session: who owns it, and until when it is kept after `ended_at_us`.

    `ended_at_us` is None while connected.
    """

    sid: int
    spiffe_id: str
    client_id: str
    expiry_s: int
    ended_at_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDropped:
    """A session is gone with everything that belongs to it."""

    sid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSaved:
    """A subscription of a durable session; `options` as in the SUBSCRIBE packet."""

    sid: int
    topic_filter: str
    options: int
    identifier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionDropped:
    """A subscription is gone."""

    sid: int
    topic_filter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkSaved:
    """How far a subscription has got what was retained: up to this topic; None: it has it all."""

    sid: int
    topic_filter: str
    topic: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedSaved:
    """A retained message, encoded as MQTT 5 PUBLISH; None removes it."""

    topic: str
    packet: bytes | None
    publisher: str
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WillSaved:
    """The will of a connected client (so that a crash of the broker publishes it); None: gone."""

    sid: int
    packet: bytes | None
    publisher: str = ""
    client_id: str = ""
    delay_s: int = 0
    serial: str = ""  # of the certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingSaved:
    """A QoS 2 packet id that a client has used (`open`) or released."""

    sid: int
    packet_id: int
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedSaved:
    """A QoS 2 delivery whose PUBREC has come, or (`finished`) whose PUBCOMP has.

    It is kept until the session's cursor has passed it: one may be done before another's turn.
    """

    sid: int
    ordinal: int
    finished: bool


Change = (
    SessionSaved
    | SessionDropped
    | SubscriptionSaved
    | SubscriptionDropped
    | WalkSaved
    | RetainedSaved
    | WillSaved
    | IncomingSaved
    | ReleasedSaved
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a durable session is: all below `done` is acknowledged, all below `sent` was sent."""

    sid: int
    done: int
    sent: int
    next: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction holds; `segment` is empty when there is nothing to log.

    `waiting`: the durable sessions that have to get something of it, each with the ordinal behind
    the last message that it gets.
    """

    at_us: int
    segment: bytes
    tapped: bool
    waiting: tuple[tuple[int, int], ...]
    changes: tuple[Change, ...]
    cursors: tuple[Cursor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A segment as one session sees it: what it waits for, all below the ordinal `end`.

    `damage` says why it could not be read; there are no runs then.
    """

    end: int
    runs: tuple[StoredRun, ...]
    damage: str = ""


def entry(end: int, data: bytes, sid: int) -> Entry:
    """Read a segment for one session, whole: damage shows here, not while it is sent."""
    try:
        runs = tuple(segments.unpack(data, only=sid))
        segments.check(runs)
    except StorageCorruptError as error:
        return Entry(end=end, runs=(), damage=str(error))
    return Entry(end=end, runs=runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a round of pruning has done; `more`: sessions for which there is more to do."""

    freed_bytes: int
    more: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a sink knows, but for messages, as it is read once at the start.

    `boot` rises with every start. `waiting`: sessions with messages in the log, each with the
    ordinal behind the last one. `log_bytes`: of all segments.
    """

    boot: int
    sessions: tuple[SessionSaved, ...]
    subscriptions: tuple[SubscriptionSaved, ...]
    walks: tuple[WalkSaved, ...]
    retained: tuple[RetainedSaved, ...]
    wills: tuple[WillSaved, ...]
    incoming: tuple[IncomingSaved, ...]
    released: tuple[ReleasedSaved, ...]
    cursors: tuple[Cursor, ...]
    waiting: tuple[tuple[int, int], ...]
    log_bytes: int


class Sink(Protocol):
    """Where the broker's state is durable."""

    def commit(self, batch: Batch) -> Awaitable[int]:
        """Start a transaction; when awaited, it is on the disk. Gives the segment's id, or 0.

        Raises:
            StorageError: nothing of the batch was stored.
        """
        ...

    async def load(self) -> State:
        """Read everything but messages, and count a start."""
        ...

    async def read(self, sid: int, start: int, end: int, size_bytes: int) -> list[Entry]:
        """Read what a session waits for, in order, between two ordinals.

        Stops behind the segment with which `size_bytes` is reached; gives at least one, if any.
        """
        ...

    async def prune(self, sids: Iterable[int]) -> Pruned:
        """Forget what these sessions have passed, and delete segments that nobody needs."""
        ...
