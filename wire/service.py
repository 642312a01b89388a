"""One way to run a process: start, serve, and on SIGTERM or SIGINT close in reverse order."""

import asyncio
import contextlib
import gc
import resource
import signal
from asyncio import sslproto
from collections.abc import Awaitable, Callable

_TLS_RECORD_BYTES = 16_384
_YOUNG_OBJECTS = 10_000


async def until_stopped(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` until it ends, or until a signal cancels it; only a signal ends it quietly."""
    task = asyncio.current_task()
    if task is None:  # pragma: no cover -- asyncio.run always makes one
        raise RuntimeError("until_stopped runs inside a task")
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await main()
    except asyncio.CancelledError:
        if not stopped:
            raise


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run an asyncio process, on uvloop where it is installed.

    asyncio's own TLS keeps a buffer of 256 KiB for each connection; one record fits into 16 KiB,
    and a thousand connections into a sixth of the memory. Garbage is looked for every 10,000
    objects, not 700: a group of readings is more than that, and none of it is garbage yet (a tenth
    of a gateway's CPU).
    """
    gc.set_threshold(_YOUNG_OBJECTS)
    _allow_open_files()
    try:
        import uvloop  # noqa: PLC0415 -- an extra
    except ImportError:
        sslproto.SSLProtocol.max_size = _TLS_RECORD_BYTES
        asyncio.run(until_stopped(main))
    else:
        uvloop.run(until_stopped(main))


def _allow_open_files() -> None:
    """Take as many descriptors as the system gives: 1,024, the usual start, is a small crowd."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a system that has a limit beneath its limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
