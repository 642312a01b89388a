"""The journal: group commit. What came in while a group was on its way to the disk is the next one.

Everything is decided in the order in which it came (who receives, what is retained, who is
subscribed); it becomes visible after its group is committed: acknowledgements go out, one write for
each connection, then messages are delivered and callbacks run, in that same order. When a commit
fails, nothing of its group is acknowledged or delivered, and what it had changed is undone.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from plantroom.broker import segments
from plantroom.broker.outlets import Outlet
from plantroom.broker.runs import Run, Segment
from plantroom.broker.session import Session
from plantroom.broker.sink import Batch, Change, Sink
from plantroom.wire.clock import Clock
from plantroom.wire.errors import StorageError

if TYPE_CHECKING:
    from plantroom.broker.runs import Receiver
    from plantroom.broker.tree import Grant

LOGGER = logging.getLogger("plantroom.broker.journal")
RETRY_S = 0.2
After = Callable[[bool], None]
Undo = Callable[[], None]


class Group:
    """What shares one transaction."""

    __slots__ = ("acks", "bound", "items", "moved", "owed", "size_bytes")

    def __init__(self) -> None:
        self.items: list[Run | After] = []
        # connection, bytes, publishes that count against its receive maximum, depends on the commit
        self.acks: list[tuple[Outlet, bytes, int, bool]] = []
        self.moved: list[Session] = []  # whose cursors are in it
        self.bound: list[tuple[Change, Undo | None]] = []  # stand and fall with the group
        self.owed: list[Change] = []  # are tried again until they are stored
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self.items or self.acks or self.bound or self.owed)


class Journal:
    """Collects groups and commits them one after the other."""

    def __init__(self, sink: Sink, clock: Clock, *, depth_bytes_max: int) -> None:
        self._sink = sink
        self._clock = clock
        self._depth_bytes_max = depth_bytes_max
        self._work = asyncio.Event()
        self._paused: list[Outlet] = []
        self._closing = False
        self.group = Group()
        self.dirty: set[Session] = set()
        self.segments: dict[int, Segment] = {}
        self.on_flush: Callable[[set[Session]], None] = lambda sessions: None  # noqa: ARG005
        self.on_tapped: list[Callable[[], None]] = []
        self.failing: StorageError | None = None
        self.commits = 0
        self.failures = 0

    # -- what joins the group

    def run(self, run: Run) -> None:
        """Add publishes to the group."""
        self.group.items.append(run)
        self._work.set()

    def after(self, callback: After) -> None:
        """Call back in turn after the commit, with whether it succeeded."""
        self.group.items.append(callback)
        self._work.set()

    def change(self, change: Change) -> None:
        """Store a change, if need be with a later group."""
        self.group.owed.append(change)
        self._work.set()

    def bind(self, change: Change, undo: Undo | None = None) -> None:
        """Store a change with this group or not at all."""
        self.group.bound.append((change, undo))
        self._work.set()

    def acknowledge(
        self, outlet: Outlet, data: bytes, *, count: int, size_bytes: int = 0, firm: bool = False
    ) -> None:
        """Send acknowledgements after the commit, in order; `firm`: even if it fails."""
        group = self.group
        group.acks.append((outlet, data, count, firm))
        group.size_bytes += size_bytes
        self._work.set()

    @property
    def deep(self) -> bool:
        """Whether so much waits for the disk that reading should stop."""
        return self.group.size_bytes > self._depth_bytes_max

    def pause(self, outlet: Outlet) -> None:
        """Resume this connection when the group is on its way."""
        self._paused.append(outlet)

    def touch(self, session: Session) -> None:
        """Note that a session's cursor has moved."""
        if session.durable:
            self.dirty.add(session)
            self._work.set()

    # -- the loop

    async def serve(self) -> None:
        """Commit groups until `close` was called and nothing is left."""
        previous: tuple[Group, int, bool] | None = None
        while True:
            if previous is None and not (self.group or self.dirty):
                if self._closing:
                    return
                self._work.clear()
                await self._work.wait()
            if not (self.group or self.dirty):
                if previous is not None:
                    self._finish(*previous)
                    previous = None
                continue
            group, batch = self._cut()
            pending = self._sink.commit(batch) if _has_content(batch) else None
            if previous is not None:  # while the disk works on the next one
                self._finish(*previous)
                previous = None
            try:
                number = await pending if pending is not None else 0
            except StorageError as error:
                self._fail(group, error)
                if self._closing:
                    return
                await asyncio.sleep(RETRY_S)  # what is owed is tried again, but not in a frenzy
                continue
            if pending is not None:
                self.commits += 1
                self.failing = None
            previous = (group, number, batch.tapped)

    def close(self) -> None:
        """Let `serve` end when everything is committed."""
        self._closing = True
        self._work.set()

    def _cut(self) -> tuple[Group, Batch]:
        """Close the group: name receivers, number their messages, encode what is stored."""
        group, self.group = self.group, Group()
        paused, self._paused = self._paused, []
        stored: list[Run] = []
        waiting = tapped = False
        for item in group.items:
            if isinstance(item, Run):
                durable = self._address(item)
                waiting |= durable
                if item.tapped or durable:
                    tapped |= item.tapped
                    stored.append(item)
        group.moved = [session for session in self.dirty if session.durable]
        cursors = tuple(session.cursor() for session in group.moved)
        self.dirty.clear()
        batch = Batch(
            at_us=self._clock.wall_us(),
            segment=segments.pack(stored) if stored else b"",
            tapped=tapped,
            waiting=waiting,
            changes=(*(change for change, _ in group.bound), *group.owed),
            cursors=cursors,
        )
        for outlet in paused:
            outlet.resume()
        return group, batch

    def _address(self, run: Run) -> bool:
        """Fill in the run's receivers; say whether a durable session waits for it."""
        match = run.match
        if match.empty:
            return False
        entries: list[tuple[Receiver, Grant]] = list(match.entries)
        for share in match.shares:
            chosen = share.choose()
            if chosen is not None:
                entries.append(chosen)
        durable = False
        top = min(run.qos, 1) if run.volatile else run.qos
        for receiver, grant in entries:
            qos = min(grant.qos, top)  # [MQTT-3.8.4-8]
            ordinal = 0
            if qos:
                ordinal = receiver.reserve(run.count)
                if receiver.durable and not run.volatile:
                    durable = True
                    if isinstance(receiver, Session):
                        self.dirty.add(receiver)
            run.receivers.append((receiver, grant, qos, ordinal))
        return durable

    def _finish(self, group: Group, number: int, tapped: bool) -> None:  # noqa: FBT001
        """Make a committed group visible."""
        for outlet, data, count, _ in group.acks:
            outlet.write(data)
            outlet.acknowledged(count)
        touched: set[Session] = set()
        segment = Segment(number, tapped=tapped) if number else None
        if segment is not None:
            self.segments[number] = segment
        for item in group.items:
            if isinstance(item, Run):
                item.segment = None if item.volatile else segment
                for receiver, grant, qos, ordinal in item.receivers:
                    receiver.offer(item, grant, qos, ordinal)
                    if isinstance(receiver, Session):
                        touched.add(receiver)
            else:
                item(True)
        if touched:
            self.on_flush(touched)
        if tapped:
            for callback in self.on_tapped:
                callback()

    def _fail(self, group: Group, error: StorageError) -> None:
        """Nothing of the group happened: say so, undo, and keep what is owed."""
        self.failures += 1
        if self.failing is None:
            LOGGER.error("commit failed, publishes are refused: %s", error)
        self.failing = error
        for _, undo in reversed(group.bound):
            if undo is not None:
                undo()
        self.group.owed[:0] = group.owed
        self.dirty.update(session for session in group.moved if session.durable)
        for outlet, data, count, firm in group.acks:
            if firm:
                outlet.write(data)
            else:
                outlet.refused(data)
            outlet.acknowledged(count)
        for item in group.items:
            if not isinstance(item, Run):
                item(False)


def _has_content(batch: Batch) -> bool:
    return bool(batch.segment or batch.changes or batch.cursors)
