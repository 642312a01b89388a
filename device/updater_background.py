"""One call on a thread of its own: an installer may take minutes, and readings do not wait."""

import threading
from collections.abc import Callable

from plantroom.wire.errors import PlantroomError


class Background:
    """Runs `act`; what it raises on purpose is in `error`, and only a return is a success."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.error: PlantroomError | None = None
        self.succeeded = False
        self._act = act
        self._thread = threading.Thread(target=self._run, name="device.install", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it has returned or raised."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._act()
        except PlantroomError as error:
            self.error = error
        else:
            self.succeeded = True
