"""Clocks that are stepped: of the whole building, by libfaketime where it is installed.

It is loaded into every process of the building and reads how far the time of day is off from a
file. Monotonic clocks go on as they are, as on a machine whose clock is set.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_WHERE: Final = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
_LOOKS_EVERY_S: Final = 1


def library() -> Path | None:
    """Return where libfaketime is, None where it is not."""
    return next(_found(), None)


def _found() -> Iterator[Path]:
    for pattern in _WHERE:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))


class Clock:
    """The time of day of every process that was started with `environment`."""

    def __init__(self, folder: Path, faketime: Path | None) -> None:
        self._file = folder / "clock"
        self._faketime = faketime
        self.set(0)

    @property
    def can_step(self) -> bool:
        """Whether it can be set at all."""
        return self._faketime is not None

    @property
    def environment(self) -> dict[str, str]:
        """What the building's processes are started with."""
        if self._faketime is None:
            return {}
        return {
            "LD_PRELOAD": str(self._faketime),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(_LOOKS_EVERY_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, off_s: int) -> None:
        """Let the time of day be off by so many seconds; nobody ever reads half a number."""
        written = self._file.with_name("clock.new")
        written.write_text(f"{off_s:+d}\n", encoding="ascii")
        written.replace(self._file)
