"""Why publishes are refused: the broker holds its taps while there is any reason."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

_log = logging.getLogger("plantroom.gateway.holding")
QUOTA_EXCEEDED: Final = 0x97  # MQTT 5, 2.4
FULL: Final = "the queue or the disk is full"
UNDERIVED: Final = "what was received cannot be derived"
NO_RESERVE: Final = "the disk was full and its reserve is not yet made again"


class Holding:
    """Collects reasons of several stages into one decision."""

    def __init__(self, tap_hold: Callable[[int | None], None]) -> None:
        self._tap_hold = tap_hold
        self._reasons: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def reasons(self) -> frozenset[str]:
        """Why publishes are refused now; empty while they are taken."""
        return frozenset(self._reasons)

    async def ended(self, reason: str) -> None:
        """Wait until this is no reason."""
        while reason in self._reasons:
            self._changed.clear()
            await self._changed.wait()

    def set(self, reason: str, *, holds: bool) -> None:
        """Say whether this reason holds."""
        if holds == (reason in self._reasons):
            return
        before = bool(self._reasons)
        if holds:
            self._reasons.add(reason)
            _log.warning("publishes are refused: %s", reason)
        else:
            self._reasons.discard(reason)
            _log.info("no longer a reason to refuse publishes: %s", reason)
        self._changed.set()
        if before != bool(self._reasons):
            self._tap_hold(QUOTA_EXCEEDED if self._reasons else None)
