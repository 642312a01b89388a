"""Stop the building that runs in a state folder, and wait until it has ended."""

import contextlib
import os
import signal
import time

from plantroom.lab import lock
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError

DEADLINE_S = 60.0
POLL_S = 0.05


def down(layout: Layout, *, deadline_s: float = DEADLINE_S) -> bool:
    """Stop it; return False when nothing ran there.

    Raises:
        UnreachableError: when it has not ended in time.
    """
    pid = lock.holder(layout)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    give_up_s = time.monotonic() + deadline_s
    while lock.holder(layout) is not None:
        if time.monotonic() >= give_up_s:
            raise UnreachableError(
                f"it has not stopped within {deadline_s:g} s (pid {pid})",
                where=str(layout.state),
                remedy=f"look at its terminal, or kill {pid}: every part survives that",
            )
        time.sleep(POLL_S)
    return True
