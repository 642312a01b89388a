"""Threads that live and die together: when one fails, all are stopped and the error is raised."""

import threading
from collections.abc import Callable


class Stages:
    """Starts named threads, and waits for them within bounds."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._stops: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def start(self, name: str, run: Callable[[], None], stop: Callable[[], None]) -> None:
        """Run `run` in a thread; `stop` makes it return soon."""
        self._stops.append(stop)

        def guarded() -> None:
            try:
                run()
            except BaseException as error:  # noqa: BLE001 -- handed to the main thread, which raises
                with self._lock:
                    self._error = self._error or error
                self.stop()

        thread = threading.Thread(target=guarded, name=f"device.{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def also_stop(self, stop: Callable[[], None]) -> None:
        """Stop this too: what runs on the caller's own thread."""
        self._stops.append(stop)

    def stop(self) -> None:
        """Ask every stage to end; from any thread, also from a signal handler."""
        for stop in list(self._stops):
            stop()

    def join(self, timeout_s: float) -> list[str]:
        """Wait for all; return the names of those that did not end in time.

        Raises:
            whatever one of them raised.
        """
        for thread in self._threads:
            thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        return [thread.name for thread in self._threads if thread.is_alive()]
