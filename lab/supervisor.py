"""All processes of a building under one roof: started bottom up, stopped top down."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from plantroom.lab.child import Child, Program
from plantroom.wire.errors import PlantroomError

TRIM_EVERY_S = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs programs in tiers; a tier starts behind, and stops before, the one in front of it."""

    def __init__(self, *, tell: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._tell = tell
        self._changed = changed
        self._tiers: list[list[Child]] = []
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def pids(self) -> dict[str, int]:
        """The living children's process ids, by name."""
        return {
            child.name: child.pid for tier in self._tiers for child in tier if child.pid is not None
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Supervise while the block runs; behind it every child has ended.

        Raises:
            PlantroomError: the complaint of a child that cannot start.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                trimming = self._tasks.create_task(self._trim_logs(), name="lab.logs")
                try:
                    yield
                finally:
                    await self._stop()
                    trimming.cancel()
        except BaseExceptionGroup as group:
            raise first_complaint(group) from group

    def start(self, programs: Sequence[Program]) -> None:
        """Start the next tier."""
        if self._tasks is None:
            raise RuntimeError("start runs inside running()")
        tier = [Child(one, tell=self._tell, changed=self._changed) for one in programs]
        self._tiers.append(tier)
        for child in tier:
            self._tasks.create_task(child.run(), name=f"lab.{child.name}")

    async def _stop(self) -> None:
        while self._tiers:
            await asyncio.gather(*(child.stop() for child in self._tiers[-1]))
            self._tiers.pop()

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            for tier in self._tiers:
                for child in tier:
                    child.trim_log()


def first_complaint(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what the operator has to know of a group: our own error before any other."""
    ours, others = group.split(PlantroomError)
    leaf: BaseException = ours if ours is not None else (others or group)
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


class Interrupted(Exception):  # noqa: N818 -- an end that was asked for, not an error
    """A signal asked for the end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@asynccontextmanager
async def interruptible() -> AsyncIterator[None]:
    """Turn a signal into `Interrupted` in this task; a second one cuts the clean-up short."""
    task = asyncio.current_task()
    if task is None:  # pragma: no cover -- asyncio.run always makes one
        raise RuntimeError("interruptible runs inside a task")
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        raise Interrupted(received[0]) from None
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
