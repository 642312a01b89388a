import json
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("set_up")


def test_a_moment_from_the_future_is_shown_and_goes_when_that_is_said(
    run: Run, tmp_path: Path
) -> None:
    floor = tmp_path / "state" / "gateway" / "time-floor"
    assert "No issuer" in run("identity", "clock").out
    floor.write_text(f"{int(time.time()) + 86_400}\n")
    shown = run("identity", "clock")
    assert (shown.code, floor.exists()) == (0, True)
    assert str(floor) in shown.out
    (one,) = json.loads(run("identity", "clock", "--json").out)["ahead"]
    assert one["file"] == str(floor)
    assert 0 < one["ahead_s"] <= 86_400
    assert "Removed" in run("identity", "clock", "--accept").out
    assert not floor.exists()
