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


class _Handle:
    """What asyncio's handles are, without what only other loops need: they are most of a run."""

    __slots__ = ("args", "callback", "context")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = contextvars.copy_context() if context is None else context

    def cancel(self) -> None:
        """Let it not happen."""
        self.callback, self.args = None, ()


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
        self.steps = 0
        self._due: list[tuple[float, int, _Handle]] = []
        self._given = itertools.count()
        self._busy_until_s: dict[int, float] = {}

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        pass

    def time(self) -> float:
        return self._now_s

    def create_task(  # type: ignore[override] # as for call_at
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        return _Task(coro, loop=self, name=name, context=context)

    def call_soon(  # type: ignore[override] # as for call_at
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle  # type: ignore[return-value] # all of one that is ever asked for

    call_soon_threadsafe = call_soon  # type: ignore[assignment] # there are no threads

    def call_later(  # type: ignore[override] # as for call_at
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = _Handle(callback, args, context)
        heapq.heappush(self._due, (self._now_s + delay, next(self._given), handle))
        return handle  # type: ignore[return-value] # as for call_soon

    def call_at(  # type: ignore[override] # asyncio's own stub has a TypeVarTuple here
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = _Handle(callback, args, context)
        heapq.heappush(self._due, (when, next(self._given), handle))
        return handle  # type: ignore[return-value] # as for call_soon

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, move to what is due next."""
        ready: deque[_Handle] = self._ready  # type: ignore[attr-defined]
        due = self._due
        while not self._stopping:  # type: ignore[attr-defined]
            while not ready:
                if not due:
                    raise DeadlockError("nothing is due, ever")
                when, _, timer = heapq.heappop(due)
                if timer.callback is not None:
                    self._now_s = max(self._now_s, when)
                    ready.append(timer)
            self.steps += len(ready)
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle.callback is not None:
                    try:
                        handle.context.run(handle.callback, *handle.args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:  # noqa: BLE001 -- as asyncio's own loop does
                        self.call_exception_handler({"message": "callback", "exception": error})

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
