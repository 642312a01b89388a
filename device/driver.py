"""The driver seam: where samples come from, and how far a recording has been read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from plantroom.wire.reading import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One sample (None: none, only progress) and the position behind it.

    `position` is opaque text that is committed together with the sample; after a restart the
    driver is given the last one that was committed.
    """

    sample: Sample | None
    position: str | None = None


class Driver(Protocol):
    """A sensor: real, simulated, or a recording of one. Called from one thread at a time."""

    @property
    def waits(self) -> bool:
        """Say whether it can wait while the outbox is full; what cannot wait displaces."""
        ...

    def resume(self, position: str | None) -> None:
        """Continue behind `position`; None: from the beginning.

        Raises:
            ConfigError: when the source is no longer the one that the position belongs to.
        """
        ...

    def due_in_us(self) -> int | None:
        """Say how long until the next sample is due; 0: now, None: never again."""
        ...

    def take(self, count_max: int) -> Sequence[Taken]:
        """Take the samples that are due, oldest first."""
        ...

    def fresh(self) -> Taken:
        """Measure now, whatever the rhythm says.

        Raises:
            UnreachableError: when there is nothing left to measure.
        """
        ...

    def info(self) -> dict[str, str]:
        """Say for people and for the presence message what this driver has done so far."""
        ...
