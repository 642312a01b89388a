"""What every test stands on."""

import os

import pytest
from hypothesis import HealthCheck, settings

# A deadline would fail on a machine that others are using; what a search finds is printed whole.
settings.register_profile(
    "plantroom", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("plantroom")


@pytest.hookimpl(optionalhook=True)  # there may be no xdist
def pytest_xdist_auto_num_workers() -> int:
    """Run one worker more than there are cores: tests of whole processes wait half of the time."""
    return (os.cpu_count() or 1) + 1
