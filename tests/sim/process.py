"""A process as the simulation has it: it runs on a disk, dies at any moment, is started again."""

import asyncio
import random

from plantroom.wire.errors import PlantroomError
from tests.sim.disk import Disk
from tests.sim.virtual_loop import DeadError

SITE, DOMAIN = "building-1", "building-1.smart.local"
CLONE = "+"  # at the end of what this simulation calls it
POISON = -666.0
GARBLED = -777.0
UNKNOWN_US = -1_789_000_000_000_000  # a clock that was never set says 1970
_START_US = 1_790_000_000_000_000


def known_as(name: str) -> str:
    """Return the name that a sensor says; a clone says that of its original."""
    return name.rstrip(CLONE)


def spiffe_id(name: str) -> str:
    """Return the name of a sensor in full."""
    return f"spiffe://{DOMAIN}/agent/{known_as(name)}"


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error within."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class VirtualClock:
    """One machine's clocks: monotonic time runs from its boot, wall time can be stepped."""

    def __init__(self) -> None:
        self.stepped_us = 0
        self._booted_us = 0

    def wall_us(self) -> int:
        return _START_US + self._now_us() + self.stepped_us

    def monotonic_us(self) -> int:
        return self._now_us() - self._booted_us

    def boot(self) -> None:
        """Begin to count anew; the time of day is unknown."""
        self._booted_us = self._now_us()
        self.stepped_us = UNKNOWN_US

    @staticmethod
    def _now_us() -> int:
        return int(asyncio.get_running_loop().time() * 1_000_000)


class Process:
    """Something that runs on a disk, dies at any moment, and is started again."""

    def __init__(self, name: str, disk: Disk, chance: random.Random) -> None:
        self.name, self.disk, self.chance = name, disk, chance
        self.clock = VirtualClock()
        self.starts = self.deaths = 0
        self.defect = ""
        self._killed = False
        self._task: asyncio.Task[None] | None = None
        self._remains: list[asyncio.Task[None]] = []
        disk.crashed = self.kill

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._task is not None and not self._task.done() and not self._killed

    def start(self) -> None:
        """Start it, unless it runs."""
        if not self.alive:
            self.starts += 1
            self._killed = False
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._guarded(), name=self.name)
            self._remains.append(self._task)

    def kill(self) -> None:
        """End it as SIGKILL does: it does nothing more, and nobody hears of it."""
        self.deaths += self.alive
        self._killed = True
        self.disk.power_off()
        self.severed()
        self.bury()

    def bury(self) -> bool:
        """Cancel what is left of it, again if need be; say whether nothing is.

        In Python 3.11 a TaskGroup that fails while it is cancelled forgets that it was.
        """
        self._remains = [task for task in self._remains if not task.done()]
        for task in self._remains:
            task.cancel()
        return not self._remains

    async def _guarded(self) -> None:
        try:
            await self.main()
        except* (DeadError, asyncio.CancelledError):
            pass
        except* PlantroomError:
            self.disk.power_off()  # it ends with one line, and is started again
            self.severed()
        except* Exception as group:  # noqa: BLE001 -- a defect, whatever it is
            self.defect = self.defect or repr(first_of(group))
            self.disk.power_off()
            self.severed()

    async def main(self) -> None:
        """Do what the process does."""
        raise NotImplementedError

    def severed(self) -> None:
        """Lose every connection."""
