"""The clock seam: wall time that may be wrong, monotonic time that may not."""

import time
import uuid
from pathlib import Path
from typing import Protocol

# Before this build existed no clock can be right: 2026-01-01T00:00:00Z.
PLAUSIBLE_FROM_US = 1_767_225_600_000_000


class Clock(Protocol):
    """Where time comes from; a simulation brings its own."""

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z, as far as this machine knows."""
        ...

    def monotonic_us(self) -> int:
        """Microseconds since boot; never steps."""
        ...


class SystemClock:
    """This machine's clocks."""

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        """Microseconds since boot."""
        return time.monotonic_ns() // 1000


def boot_name() -> str:
    """Name this boot of the machine: what is counted since then cannot be compared with others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex  # of this process alone


def is_plausible(wall_us: int) -> bool:
    """Say whether a wall clock can be right; a device that booted in 1970 is not synchronised."""
    return wall_us >= PLAUSIBLE_FROM_US
