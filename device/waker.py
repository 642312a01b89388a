"""Wakes a thread that waits in poll: a pipe, safe from other threads and from signal handlers."""

import contextlib
import os
import select

PIPE_BYTES = 65536  # what a pipe of Linux holds


class Waker:
    """`wake` ends the wait of whoever polls `descriptor`; many wakes before a wait are one."""

    def __init__(self) -> None:
        self.descriptor, self._end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._end, False)
        self._closed = False

    def wake(self) -> None:
        """End a wait, now or the next one."""
        if not self._closed:
            with contextlib.suppress(BlockingIOError):  # full: it is awake already
                os.write(self._end, b"!")

    def wait(self, timeout_s: float) -> None:
        """Wait until woken, or until the time is over."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        if poll.poll(timeout_s * 1000):
            self.clear()

    def clear(self) -> None:
        """Forget the wakes so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, PIPE_BYTES)

    def close(self) -> None:
        """Close the pipe; idempotent."""
        if not self._closed:
            self._closed = True
            os.close(self.descriptor)
            os.close(self._end)
