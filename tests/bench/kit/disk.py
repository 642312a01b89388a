"""What the disk itself can do: the time of one fdatasync behind an append."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_BLOCK = bytes(4096)


@dataclass(frozen=True, slots=True)
class Syncs:
    """Times of fdatasync, sorted, in milliseconds."""

    times_ms: tuple[float, ...]

    def percentile_ms(self, part: float) -> float:
        """Return the time that this part of all syncs did not exceed."""
        return self.times_ms[min(int(part * len(self.times_ms)), len(self.times_ms) - 1)]

    def __add__(self, other: "Syncs") -> "Syncs":
        return Syncs(tuple(sorted(self.times_ms + other.times_ms)))


def measure(folder: Path, *, seconds: float) -> Syncs:
    """Append a page and fdatasync, over and over, for a while."""
    path = folder / "fdatasync"
    times: list[float] = []
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        until = time.perf_counter() + seconds
        while not times or time.perf_counter() < until:
            os.write(handle, _BLOCK)
            begin = time.perf_counter()
            os.fdatasync(handle)
            times.append((time.perf_counter() - begin) * 1000)
    finally:
        os.close(handle)
        path.unlink()
    return Syncs(tuple(sorted(times)))
