"""Takes readings from the driver into the outbox, every period, whether anyone listens or not."""

import threading
from collections.abc import Callable

from plantroom.device.driver import Driver, Taken
from plantroom.device.outbox import Outbox
from plantroom.device.waker import Waker
from plantroom.wire.errors import StorageFullError, UnreachableError
from plantroom.wire.reading import Reading

BATCH_MAX = 100  # of one transaction: what is due at the same time shares a sync
RETRY_S = 1.0
WAIT_S_MAX = 60.0

Say = Callable[[str], None]


class Sampler:
    """The only one that calls the driver; `read_now` may be called from another thread."""

    def __init__(self, driver: Driver, outbox: Outbox, *, say: Say) -> None:
        self._driver = driver
        self._outbox = outbox
        self._say = say
        self._lock = threading.Lock()
        self._held: list[Taken] = []  # taken from the driver, not on the disk yet
        self._waker = Waker()
        self._stopped = False
        self._full = False
        self.taken_total = 0
        outbox.watch(self._waker.wake)

    def start(self) -> None:
        """Tell the driver where it had got to.

        Raises:
            ConfigError: when its source is no longer the same.
        """
        self._driver.resume(self._outbox.position)

    def run(self) -> None:
        """Take readings until `stop`."""
        try:
            while not self._stopped:
                wait_s = self.step()
                if wait_s > 0:
                    self._waker.wait(wait_s)
        finally:
            self._waker.close()

    def stop(self) -> None:
        """Make `run` return soon; from any thread, also from a signal handler."""
        self._stopped = True
        self._waker.wake()

    @property
    def ended(self) -> bool:
        """Say whether the driver has nothing left, and all that it gave is in the outbox."""
        with self._lock:
            return not self._held and self._driver.due_in_us() is None

    def info(self) -> dict[str, str]:
        """Say what the driver has done so far."""
        with self._lock:
            return self._driver.info()

    def step(self) -> float:
        """Take what is due, keep it, and return how many seconds nothing is due."""
        with self._lock:
            if not self._held:
                room = self._outbox.room if self._driver.waits else BATCH_MAX
                if room == 0:
                    return WAIT_S_MAX  # the outbox wakes us when something was acknowledged
                due_in_us = self._driver.due_in_us()
                if due_in_us is None:
                    return WAIT_S_MAX
                if due_in_us > 0:
                    return min(WAIT_S_MAX, due_in_us / 1_000_000)
                self._held = list(self._driver.take(min(room, BATCH_MAX)))
            return self._keep()

    def _keep(self) -> float:
        """Bring what is held onto the disk; a full disk keeps it in memory, and nothing is taken.

        What could not be taken meanwhile shows as missed in the driver's own count.
        """
        try:
            stored = self._outbox.append(self._held, displace=not self._driver.waits)
        except StorageFullError as error:
            if not self._full:
                self._say(f"{error}; readings wait in memory until there is room again")
            self._full = True
            return RETRY_S
        if self._full:
            self._say("the disk has room again")
        self._full = False
        self.taken_total += len(stored.readings)
        del self._held[: stored.consumed]
        return WAIT_S_MAX if self._held else 0.0

    def read_now(self) -> Reading:
        """Take a fresh reading and keep it, outside the rhythm.

        Raises:
            UnreachableError: when nothing can be measured or kept now.
        """
        with self._lock:
            if self._held or (self._driver.waits and self._outbox.room == 0):
                raise UnreachableError("the outbox is full of readings that wait to be sent")
            self._held = [self._driver.fresh()]
            reading = self._outbox.append(self._held, displace=not self._driver.waits).readings
            if not reading:
                raise UnreachableError("the outbox is full of readings that wait to be sent")
            self._held = []
            self.taken_total += 1
            return reading[0]
