"""Notice that two agents share one identity: a former epoch of a device is born again.

An agent begins a new epoch at each start and never returns to an earlier one; two that take the
connection from each other say theirs in turn. Pure.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Literal

DEVICES_MAX: Final = 10_000
EPOCHS_MAX: Final = 32
QUIET_US: Final = 300_000_000  # so long only one of them has to be heard

Verdict = Literal["", "twins", "alone"]


@dataclass(slots=True)
class _Lives:
    epochs: list[int] = field(default_factory=list)
    twins_us: int | None = None


class Twins:
    """The epochs that each device was born with, the latest last."""

    def __init__(self) -> None:
        self._lives: OrderedDict[str, _Lives] = OrderedDict()

    def born(self, device: str, epoch: int, now_us: int) -> Verdict:
        """Take a birth; say whether there are twins, or whether there are none any more."""
        lives = self._lives.setdefault(device, _Lives())
        self._lives.move_to_end(device)
        if len(self._lives) > DEVICES_MAX:
            self._lives.popitem(last=False)
        again = epoch in lives.epochs[:-1]
        if epoch in lives.epochs:
            lives.epochs.remove(epoch)
        lives.epochs = [*lives.epochs[-EPOCHS_MAX:], epoch]
        if again:
            lives.twins_us = now_us
            return "twins"
        if lives.twins_us is not None and now_us - lives.twins_us >= QUIET_US:
            lives.twins_us = None
            return "alone"
        return ""
