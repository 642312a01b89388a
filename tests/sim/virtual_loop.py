"""An event loop without time and without threads: it jumps to what is due next.

Work for a thread runs on the loop, after a delay and with its answer delayed again, both drawn from
the seed, in the order in which it was given to that thread. So a run depends on its seed alone.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque

_STEP_S = 1e-6


class DeadlockError(Exception):
    """Nothing can ever happen again."""


class DeadError(BaseException):
    """The process that this runs in was killed: nobody hears of the result."""


class _NoFiles(selectors.BaseSelector):
    """A selector that is never asked: there are no files."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise NotImplementedError

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise NotImplementedError

    def get_map(self) -> Any:
        return {}

    def select(self, timeout: float | None = None) -> list[Any]:
        raise NotImplementedError


_numbers = itertools.count()


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._number = next(_numbers)
        super().__init__(*args, **more)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time moves only when everybody waits; what is due at one moment runs in the order given."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(_NoFiles())
        self.chance = chance
        self._now_s = 0.0
        self._due: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._given = itertools.count()
        self._busy_until_s: dict[int, float] = {}
        self.set_task_factory(lambda loop, coro, **more: _Task(coro, loop=loop, **more))

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        pass

    def time(self) -> float:
        return self._now_s

    def call_at(  # type: ignore[override] # asyncio's own stub has a TypeVarTuple here
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._due, (when, next(self._given), timer))
        return timer

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, move to what is due next."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        while not ready:
            if not self._due:
                raise DeadlockError("nothing is due, ever")
            when, _, timer = heapq.heappop(self._due)
            if not timer.cancelled():
                self._now_s = max(self._now_s, when)
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def run_in_executor(  # type: ignore[override] # the loop's own stub is of a coroutine
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        future = self.create_future()
        thread = id(executor)
        start_s = max(self.time(), self._busy_until_s.get(thread, 0.0)) + self._delay_s()
        self._busy_until_s[thread] = start_s
        self.call_at(start_s, self._work, future, func, args)
        return future

    def is_busy(self, executor: Any) -> bool:
        """Say whether this thread has something to do."""
        return self._busy_until_s.get(id(executor), 0.0) > self.time()

    def _delay_s(self) -> float:
        slow = self.chance.random() < 0.03
        return _STEP_S + self.chance.random() * (0.3 if slow else 0.003)

    def _work(
        self, future: "asyncio.Future[Any]", func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        if future.cancelled():
            return
        try:
            result, error = func(*args), None
        except DeadError:
            return
        except Exception as caught:  # noqa: BLE001 -- whoever waits for the thread gets it
            result, error = None, caught
        self.call_later(self._delay_s(), _settle, future, result, error)


def _settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def run(main: Coroutine[Any, Any, Any], chance: random.Random) -> Any:
    """Run to the end in virtual time; what is left over is cancelled."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(chance)) as runner:
        return runner.run(main)
