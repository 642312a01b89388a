import threading
from collections.abc import Callable

import pytest

from plantroom.device.stages import Stages


def waits(event: threading.Event) -> Callable[[], None]:
    def run() -> None:
        event.wait(60)

    return run


def test_failure_of_one_stage_stops_all_and_is_raised() -> None:
    stages, ended = Stages(), threading.Event()

    def fail() -> None:
        raise ValueError("broken")

    stages.start("steady", waits(ended), ended.set)
    stages.start("weak", fail, lambda: None)
    with pytest.raises(ValueError, match="broken"):
        stages.join(60)
    assert ended.is_set()


def test_stop_reaches_every_stage_and_what_runs_elsewhere() -> None:
    stages, one, other = Stages(), threading.Event(), threading.Event()
    stages.start("one", waits(one), one.set)
    stages.also_stop(other.set)
    stages.stop()
    assert stages.join(60) == []
    assert other.is_set()


def test_stage_that_does_not_end_is_named() -> None:
    stages, never = Stages(), threading.Event()
    stages.start("stubborn", waits(never), lambda: None)
    stages.stop()
    assert stages.join(0.05) == ["device.stubborn"]
    never.set()
    assert stages.join(60) == []
