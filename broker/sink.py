"""The sink seam: where a group of publishes and session changes is made durable, all or nothing.

`commit` starts the transaction and returns an awaitable; PUBACKs wait for it. Changes are values,
so that every sink can apply them; each can be applied again without harm.
"""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Protocol


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


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingSaved:
    """A QoS 2 packet id that a client has used (`open`) or released."""

    sid: int
    packet_id: int
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedSaved:
    """A QoS 2 delivery whose PUBREC has come (`open`), or whose PUBCOMP has."""

    sid: int
    ordinal: int
    open: bool


Change = (
    SessionSaved
    | SessionDropped
    | SubscriptionSaved
    | SubscriptionDropped
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

    `waiting`: durable sessions have to get something of it.
    """

    at_us: int
    segment: bytes
    tapped: bool
    waiting: bool
    changes: tuple[Change, ...]
    cursors: tuple[Cursor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything a sink knows, as it is read once at the start; `boot` rises with every start.

    `segments`: id, tapped, data (empty unless a durable session has to get something of it).
    """

    boot: int
    sessions: tuple[SessionSaved, ...]
    subscriptions: tuple[SubscriptionSaved, ...]
    retained: tuple[RetainedSaved, ...]
    wills: tuple[WillSaved, ...]
    incoming: tuple[IncomingSaved, ...]
    released: tuple[ReleasedSaved, ...]
    cursors: tuple[Cursor, ...]
    segments: tuple[tuple[int, bool, bytes], ...]


class Sink(Protocol):
    """Where the broker's state is durable."""

    def commit(self, batch: Batch) -> Awaitable[int]:
        """Start a transaction; when awaited, it is on the disk. Gives the segment's id, or 0.

        Raises:
            StorageError: nothing of the batch was stored.
        """
        ...

    async def load(self) -> State:
        """Read everything, and count a start."""
        ...

    async def prune(self, segments: Iterable[int]) -> list[int]:
        """Delete those segments that no tap needs; give the ids of those that remain."""
        ...
