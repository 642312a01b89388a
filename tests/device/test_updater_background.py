import threading

import pytest

from plantroom.device.updater_background import Background
from plantroom.wire.errors import StorageError


def test_it_runs_beside_and_its_end_is_seen() -> None:
    gate = threading.Event()

    def act() -> None:
        gate.wait(60)

    background = Background(act)
    assert not background.ended
    gate.set()
    background.join(60)
    assert background.ended
    assert background.succeeded


def test_what_is_raised_on_purpose_is_kept() -> None:
    def act() -> None:
        raise StorageError("no")

    background = Background(act)
    background.join(60)
    assert isinstance(background.error, StorageError)
    assert not background.succeeded


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_was_not_expected_is_no_success() -> None:
    def act() -> None:
        raise RuntimeError("a defect")

    background = Background(act)
    background.join(60)
    assert background.ended
    assert not background.succeeded
