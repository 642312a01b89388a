"""The installer seam: what takes a verified image, boots it on trial, and makes it stay."""

from dataclasses import dataclass
from typing import Protocol

from plantroom.device.updater_record import Image, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """What this boot runs; `on_trial`: it has to prove itself."""

    image: Image
    on_trial: bool


class Installer(Protocol):
    """Two slots, however they are made; the record is its own and survives power cuts."""

    @property
    def record(self) -> Record:
        """What is known, as of now."""
        ...

    def boot(self) -> Booted:
        """Choose what to run, once at every start and before anything else."""
        ...

    def install(self, image: Image, file: str) -> None:
        """Take a verified file; the next boot tries it.

        Raises:
            PlantroomError: when it could not be taken; nothing has changed then.
        """
        ...

    def prove(self) -> None:
        """Make what is on trial the active image."""
        ...

    def give_up(self, text: str, *, for_good: bool) -> None:
        """End the trial; the next boot runs the image before."""
        ...

    def condemn(self, release: bytes) -> None:
        """Never take this release."""
        ...
