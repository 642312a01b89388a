import dataclasses

import pytest

from plantroom.device.driver import Taken
from tests.device.stand_ins import sample


def test_what_was_taken_never_changes() -> None:
    one = Taken(sample=sample(), position="p")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.position = "q"  # type: ignore[misc]


def test_progress_may_come_without_a_sample() -> None:
    assert Taken(sample=None, position="end").sample is None
