"""The clock of a storm: what the building's processes are told, and what they believe."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plantroom.lab import chaos_clock
from plantroom.lab.chaos_clock import Clock

_ASK = "import time; print(time.time(), time.monotonic())"


def test_without_the_library_nothing_is_loaded_and_nothing_can_be_set(tmp_path: Path) -> None:
    clock = Clock(tmp_path, None)
    assert not clock.can_step
    assert clock.environment == {}


def test_time_of_day_is_off_and_monotonic_time_goes_on(tmp_path: Path) -> None:
    library = chaos_clock.library()
    if library is None:
        pytest.skip("libfaketime is not installed")
    clock = Clock(tmp_path, library)
    for off_s in (0, 3_000, -600):
        clock.set(off_s)
        done = subprocess.run(
            [sys.executable, "-c", _ASK],
            env={**os.environ, **clock.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        wall_s, monotonic_s = map(float, done.stdout.split())
        assert abs(wall_s - off_s - time.time()) < 30
        assert abs(monotonic_s - time.monotonic()) < 30
