"""The journal: group commit. What came in while a group was on its way to the disk is the next one.

Everything is decided in the order in which it came (who receives, what is retained, who is
subscribed); it becomes visible after its group is committed: acknowledgements go out, one write for
each connection, then messages are delivered and callbacks run, in that same order. When a commit
fails, nothing of its group is acknowledged or delivered, and what it had changed is undone.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from plantroom.broker import segments
from plantroom.broker.outlets import Outlet
from plantroom.broker.runs import Run
from plantroom.broker.session import Session
from plantroom.broker.sink import Batch, Change, SessionDropped, Sink
from plantroom.broker.turns import Turns, Waiting
from plantroom.wire.clock import Clock
from plantroom.wire.errors import StorageError

if TYPE_CHECKING:
    from plantroom.broker.runs import Receiver
    from plantroom.broker.tree import Grant

LOGGER = logging.getLogger("plantroom.broker.journal")
RETRY_S = 0.2
ITEM_BYTES = 100  # what waits is counted with the object that holds it
GATHER_S = 0.002  # p99 of a PUBACK is this, a commit, and what the loop is busy with
_FEW = 8
_CROWD = 3  # publishes in `gather_s`
_CROWDED = 5  # times as long takes a group then, for as many more
_NAP_S = 0.01  # at most
_SMOOTHING = 8
_VAIN_GROUPS = 32
After = Callable[[bool], None]
Undo = Callable[[], None]


class Group:
    """What shares one transaction."""

    __slots__ = ("acks", "bound", "count", "items", "moved", "owed", "size_bytes", "urgent")

    def __init__(self) -> None:
        self.items: list[Run | After] = []
        # connection, bytes, publishes that count against its receive maximum, depends on the commit
        self.acks: list[tuple[Outlet, bytes, int, bool]] = []
        self.moved: list[Session] = []  # whose cursors are in it
        self.bound: list[tuple[Change, Undo | None]] = []  # stand and fall with the group
        self.owed: list[Change] = []  # are tried again until they are stored
        self.size_bytes = 0
        self.count = 0  # publishes
        self.urgent = False  # more than publishes: somebody waits for just this

    def __bool__(self) -> bool:
        return bool(self.items or self.acks or self.bound or self.owed)


class Journal:
    """Collects groups and commits them one after the other."""

    def __init__(  # noqa: PLR0913 -- its limits
        self,
        sink: Sink,
        clock: Clock,
        *,
        depth_bytes_max: int,
        log_bytes_max: int = 1 << 62,
        session_log_bytes_max: int = 1 << 62,
        gather_s: float = GATHER_S,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._depth_bytes_max = depth_bytes_max
        self._log_bytes_max = log_bytes_max
        self._session_log_bytes_max = session_log_bytes_max
        self._gather_s = gather_s
        self._work = asyncio.Event()
        self._enough = asyncio.Event()
        self._begun_s = self._ended_s = 0.0  # when the last commit was, by the loop's clock
        self._gather_not = 0  # for so many groups, because it was in vain
        self._came_s = 0.0  # publishes a second that were gathered, smoothed
        self._few = _FEW  # a group of fewer waits for more
        self._turns = Turns(lambda: self.deep)
        self._closing = False
        self.group = Group()
        self.dirty: set[Session] = set()
        self.passed: set[int] = set()  # sessions whose place in the log has changed
        self.log_bytes = 0  # of all segments
        self.full = False
        self.on_full: Callable[[bool], None] = lambda full: None  # noqa: ARG005
        self.dropping = False  # sessions that are away or behind get nothing now
        self.on_drop: Callable[[Session, int, str], None] = lambda session, count, limit: None  # noqa: ARG005
        self.on_flush: Callable[[set[Session]], None] = lambda sessions: None  # noqa: ARG005
        self.on_tapped: list[Callable[[], None]] = []
        self.failing: StorageError | None = None
        self.commits = 0
        self.failures = 0
        self._under_way = 0  # groups that are closed and not yet visible

    # -- what joins the group

    def run(self, run: Run) -> None:
        """Add publishes to the group."""
        self.group.items.append(run)
        if run.qos == 0 or run.retained:  # nobody acknowledges these, and they wait as well
            self.group.size_bytes += len(run.data) + ITEM_BYTES
        self._work.set()

    def after(self, callback: After) -> None:
        """Call back in turn after the commit, with whether it succeeded."""
        self.group.items.append(callback)
        self.group.size_bytes += ITEM_BYTES
        self._hurry()

    def change(self, change: Change) -> None:
        """Store a change, if need be with a later group."""
        self.group.owed.append(change)
        self.group.size_bytes += ITEM_BYTES
        self._hurry()

    def bind(self, change: Change, undo: Undo | None = None) -> None:
        """Store a change with this group or not at all."""
        self.group.bound.append((change, undo))
        self._hurry()

    def acknowledge(
        self, outlet: Outlet, data: bytes, *, count: int, size_bytes: int = 0, firm: bool = False
    ) -> None:
        """Send acknowledgements after the commit, in order; `firm`: even if it fails."""
        group = self.group
        group.acks.append((outlet, data, count, firm))
        group.size_bytes += size_bytes + ITEM_BYTES
        group.count += count
        if not count or group.count >= self._few:
            self._hurry()
        self._work.set()

    def _hurry(self) -> None:
        self.group.urgent = True
        self._enough.set()
        self._work.set()

    @property
    def idle(self) -> bool:
        """Whether all that came in is visible."""
        return not (self.group or self._under_way)

    @property
    def deep(self) -> bool:
        """Whether so much waits for the disk that reading should stop."""
        return self.group.size_bytes > self._depth_bytes_max

    def pause(self, outlet: Waiting) -> None:
        """Resume this connection in its turn, once the group is on its way."""
        self._turns.wait(outlet)

    def touch(self, session: Session) -> None:
        """Note that a session's cursor has moved."""
        if session.durable:
            self.dirty.add(session)
            self._work.set()

    def grow(self, size_bytes: int) -> None:
        """Note that the log has grown or shrunk by so much."""
        self.log_bytes += size_bytes
        full = self.log_bytes >= self._log_bytes_max
        if full != self.full:
            self.full = full
            self.on_full(full)

    # -- the loop

    async def serve(self) -> None:
        """Commit groups until `close` was called and nothing is left."""
        finish: Callable[[], None] | None = None  # makes the last group visible
        while True:
            if finish is None and not (self.group or self.dirty):
                if self._closing:
                    return
                self._work.clear()
                await self._work.wait()
                await self._gather()
            if self.group or self.dirty:
                finish = await self._commit(finish)
                if self._closing and self.failing is not None:
                    return
            elif finish is not None:
                finish()
                finish = None

    async def _commit(self, finish: Callable[[], None] | None) -> Callable[[], None] | None:
        """Commit the group, and finish the one before it meanwhile; return what finishes this."""
        self._begun_s = asyncio.get_running_loop().time()
        group, batch = self._cut()
        pending = self._sink.commit(batch) if _has_content(batch) else None
        if finish is not None:  # while the disk works on this one
            finish()
        try:
            if pending is not None:
                await pending
                self.commits += 1
                self.failing = None
                self.grow(len(batch.segment))
        except StorageError as error:
            self._fail(group, error)
            if not self._closing:
                await asyncio.sleep(RETRY_S)  # what is owed is tried again, but not in a frenzy
            return None
        self._ended_s = asyncio.get_running_loop().time()
        return partial(self._finish, group, batch.tapped)

    async def _gather(self) -> None:
        """Let a few publishes wait for more, so that commits of a few are `gather_s` apart.

        A commit costs the CPU as much as a dozen publishes. The first after a pause goes at once,
        and so does what others than publishers wait for; where none joins, the next do not wait.
        Where many come, they wait five times as long for five times as many. Where even so many
        are not to be expected, the loop sleeps meanwhile: to be woken for each of them would cost
        the CPU as much as all else that is done with it, and none is answered sooner.
        """
        if self._gather_not:
            self._gather_not -= 1
            return
        loop = asyncio.get_running_loop()
        crowd = _CROWDED if self._came_s * self._gather_s >= _CROWD else 1
        self._few = crowd * _FEW
        end_s = self._ended_s + crowd * self._gather_s
        wait_s = end_s - loop.time()
        if wait_s <= 0 or self.group.urgent or self._closing:
            return
        before = self.group.count
        self._enough.clear()
        if crowd > 1 and self._came_s * wait_s < self._few:
            time.sleep(min(wait_s, _NAP_S))  # noqa: ASYNC251 -- see above
        timer = loop.call_later(max(0.0, end_s - loop.time()), self._enough.set)
        try:
            await self._enough.wait()
        finally:
            timer.cancel()
        if self.group.count <= before and not self.group.urgent:
            self._gather_not = _VAIN_GROUPS
        # What comes during a commit is read after it.
        came_s = self.group.count / max(loop.time() - self._begun_s, self._gather_s / 2)
        self._came_s += (came_s - self._came_s) / _SMOOTHING

    def close(self) -> None:
        """Let `serve` end when everything is committed."""
        self._closing = True
        self._hurry()

    def _cut(self) -> tuple[Group, Batch]:
        """Close the group: name receivers, number their messages, encode what is stored."""
        group, self.group = self.group, Group()
        self._under_way += 1
        stored: list[Run] = []
        waiting: dict[int, int] = {}
        tapped = False
        for item in group.items:
            if isinstance(item, Run):
                durable = self._address(item, waiting)
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
            waiting=tuple(waiting.items()),
            changes=(*(change for change, _ in group.bound), *group.owed),
            cursors=cursors,
        )
        self._turns.begin()
        return group, batch

    def _address(self, run: Run, waiting: dict[int, int]) -> bool:
        """Fill in the run's receivers; say whether a durable session waits for it.

        `waiting` notes for each of those where its messages of this group end.
        """
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
                logged = isinstance(receiver, Session) and receiver.durable and not run.volatile
                if logged and self._drops(receiver, run):
                    continue
                ordinal = receiver.reserve(run.count)
                if logged and isinstance(receiver, Session):
                    durable = True
                    waiting[receiver.sid] = ordinal + run.count
                    self.dirty.add(receiver)
            run.receivers.append((receiver, grant, qos, ordinal))
        return durable

    def _drops(self, receiver: "Receiver", run: Run) -> bool:
        """Drop a run for a session that is away or behind, if its queue or the log is full."""
        if not isinstance(receiver, Session) or receiver.keeping_up:
            return False
        if self.dropping or receiver.behind_bytes >= self._session_log_bytes_max:
            limit = "log_bytes_max" if self.dropping else "session_log_bytes_max"
            self.on_drop(receiver, run.count, limit)
            return True
        receiver.behind_bytes += len(run.data)
        return False

    def _finish(self, group: Group, tapped: bool) -> None:  # noqa: FBT001
        """Make a committed group visible."""
        self._under_way -= 1
        for outlet, data, count, _ in group.acks:
            outlet.write(data)
            outlet.acknowledged(count)
        touched: set[Session] = set()
        # [MQTT-4.6.0-5], [MQTT-4.6.0-6]
        for item in group.items:
            if isinstance(item, Run):
                for receiver, grant, qos, ordinal in item.receivers:
                    receiver.offer(item, grant, qos, ordinal)
                    if isinstance(receiver, Session):
                        touched.add(receiver)
            else:
                item(True)
        self.passed.update(session.sid for session in group.moved)
        self.passed.update(c.sid for c in group.owed if isinstance(c, SessionDropped))
        if touched:
            self.on_flush(touched)
        if tapped:
            for callback in self.on_tapped:
                callback()

    def _fail(self, group: Group, error: StorageError) -> None:
        """Nothing of the group happened: say so, undo, and keep what is owed."""
        self._under_way -= 1
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
