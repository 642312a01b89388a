"""A sink in memory: for brokers whose life is a test or a simulation."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from plantroom.broker.sink import (
    Batch,
    Change,
    Cursor,
    Entry,
    IncomingSaved,
    Pruned,
    ReleasedSaved,
    RetainedSaved,
    SessionDropped,
    SessionSaved,
    State,
    SubscriptionDropped,
    SubscriptionSaved,
    WalkSaved,
    WillSaved,
    entry,
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
        self._walks: dict[tuple[int, str], WalkSaved] = {}
        self._retained: dict[str, RetainedSaved] = {}
        self._wills: dict[int, WillSaved] = {}
        self._incoming: dict[tuple[int, int], IncomingSaved] = {}
        self._released: dict[tuple[int, int], ReleasedSaved] = {}
        self._cursors: dict[int, Cursor] = {}
        self._waiting: dict[int, dict[int, int]] = {}  # by session: ordinal behind -> segment

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
            for sid, end in batch.waiting:
                self._waiting.setdefault(sid, {})[end] = number
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
                self._walks.pop((change.sid, change.topic_filter), None)
            case WalkSaved():
                key = (change.sid, change.topic_filter)
                _keep(self._walks, key, change, keep=change.topic is not None)
            case RetainedSaved():
                _keep(self._retained, change.topic, change, keep=change.packet is not None)
            case WillSaved():
                _keep(self._wills, change.sid, change, keep=change.packet is not None)
            case IncomingSaved():
                _keep(self._incoming, (change.sid, change.packet_id), change, keep=change.open)
            case ReleasedSaved():
                self._released[change.sid, change.ordinal] = change

    def _drop(self, sid: int) -> None:
        self._sessions.pop(sid, None)
        self._cursors.pop(sid, None)
        _drop(self._subscriptions, sid)
        _drop(self._walks, sid)
        _drop(self._incoming, sid)
        _drop(self._released, sid)

    async def load(self) -> State:
        """Give everything, and count a start."""
        self._boot += 1
        return State(
            boot=self._boot,
            sessions=tuple(self._sessions.values()),
            subscriptions=tuple(self._subscriptions.values()),
            walks=tuple(self._walks.values()),
            retained=tuple(self._retained.values()),
            wills=tuple(self._wills.values()),
            incoming=tuple(self._incoming.values()),
            released=tuple(self._released.values()),
            cursors=tuple(self._cursors.values()),
            waiting=tuple((sid, max(ends)) for sid, ends in self._waiting.items() if ends),
            log_bytes=sum(len(data) for _, data in self.segments.values()),
        )

    async def read(self, sid: int, start: int, end: int, size_bytes: int) -> list[Entry]:
        """Give what a session waits for."""
        found: list[Entry] = []
        for upto, number in sorted(self._waiting.get(sid, {}).items()):
            if start < upto <= end and size_bytes > 0:
                found.append(entry(upto, self.segments[number][1], sid))
                size_bytes -= sum(len(run.data) for run in found[-1].runs)
        return found

    async def prune(self, sids: Iterable[int]) -> Pruned:
        """Delete what no session and no tap needs."""
        for sid in sids:
            done = self._cursors[sid].done if sid in self._cursors else None
            ends = self._waiting.get(sid, {})
            for end in [end for end in ends if done is None or end <= done]:
                del ends[end]
            for key in [key for key in self._released if key[0] == sid and key[1] < (done or 0)]:
                del self._released[key]
        passed = min(self.taps.values(), default=0)
        needed = {number for ends in self._waiting.values() for number in ends.values()}
        free = [
            number
            for number, (tapped, _) in self.segments.items()
            if number not in needed and not (tapped and number > passed)
        ]
        return Pruned(freed_bytes=sum(len(self.segments.pop(number)[1]) for number in free))


def _keep(table: dict[K, V], key: K, value: V, *, keep: bool) -> None:
    if keep:
        table[key] = value
    else:
        table.pop(key, None)


def _drop(table: dict[tuple[int, K], V], sid: int) -> None:
    for key in [key for key in table if key[0] == sid]:
        del table[key]
