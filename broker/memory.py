"""A sink in memory: for brokers whose life is a test or a simulation."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from plantroom.broker.sink import (
    Batch,
    Change,
    Cursor,
    IncomingSaved,
    ReleasedSaved,
    RetainedSaved,
    SessionDropped,
    SessionSaved,
    State,
    SubscriptionDropped,
    SubscriptionSaved,
    WillSaved,
)

K = TypeVar("K")
V = TypeVar("V")


class MemorySink:
    """Keeps what a sink keeps; outlives the broker object, so that restarts can be simulated.

    `fault`, when set, is raised by every commit. `taps` are the readers' positions.
    """

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.taps: dict[str, int] = {}
        self.segments: dict[int, tuple[bool, bytes]] = {}
        self._boot = 0
        self._last = 0
        self._sessions: dict[int, SessionSaved] = {}
        self._subscriptions: dict[tuple[int, str], SubscriptionSaved] = {}
        self._retained: dict[str, RetainedSaved] = {}
        self._wills: dict[int, WillSaved] = {}
        self._incoming: dict[tuple[int, int], IncomingSaved] = {}
        self._released: dict[tuple[int, int], ReleasedSaved] = {}
        self._cursors: dict[int, Cursor] = {}

    def commit(self, batch: Batch) -> Awaitable[int]:
        """Apply a batch at once."""
        done = asyncio.get_running_loop().create_future()
        if self.fault is not None:
            done.set_exception(self.fault)
            return done
        for change in batch.changes:
            self._apply(change)
        for cursor in batch.cursors:
            self._cursors[cursor.sid] = cursor
        number = 0
        if batch.segment:
            self._last += 1
            number = self._last
            self.segments[number] = (batch.tapped, batch.segment)
        done.set_result(number)
        return done

    def _apply(self, change: Change) -> None:
        match change:
            case SessionSaved():
                self._sessions[change.sid] = change
            case SessionDropped():
                self._drop(change.sid)
            case SubscriptionSaved():
                self._subscriptions[change.sid, change.topic_filter] = change
            case SubscriptionDropped():
                self._subscriptions.pop((change.sid, change.topic_filter), None)
            case RetainedSaved():
                _keep(self._retained, change.topic, change, keep=change.packet is not None)
            case WillSaved():
                _keep(self._wills, change.sid, change, keep=change.packet is not None)
            case IncomingSaved():
                _keep(self._incoming, (change.sid, change.packet_id), change, keep=change.open)
            case ReleasedSaved():
                _keep(self._released, (change.sid, change.ordinal), change, keep=change.open)

    def _drop(self, sid: int) -> None:
        self._sessions.pop(sid, None)
        self._cursors.pop(sid, None)
        _drop(self._subscriptions, sid)
        _drop(self._incoming, sid)
        _drop(self._released, sid)

    async def load(self) -> State:
        """Give everything, and count a start."""
        self._boot += 1
        return State(
            boot=self._boot,
            sessions=tuple(self._sessions.values()),
            subscriptions=tuple(self._subscriptions.values()),
            retained=tuple(self._retained.values()),
            wills=tuple(self._wills.values()),
            incoming=tuple(self._incoming.values()),
            released=tuple(self._released.values()),
            cursors=tuple(self._cursors.values()),
            segments=tuple((number, *row) for number, row in sorted(self.segments.items())),
        )

    async def prune(self, segments: Iterable[int]) -> list[int]:
        """Delete what no tap needs."""
        passed = min(self.taps.values(), default=0)
        kept = []
        for number in segments:
            if self.segments[number][0] and number > passed:
                kept.append(number)
            else:
                del self.segments[number]
        return kept


def _keep(table: dict[K, V], key: K, value: V, *, keep: bool) -> None:
    if keep:
        table[key] = value
    else:
        table.pop(key, None)


def _drop(table: dict[tuple[int, K], V], sid: int) -> None:
    for key in [key for key in table if key[0] == sid]:
        del table[key]
