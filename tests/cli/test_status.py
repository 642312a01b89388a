from typing import Any

import pytest

from plantroom.cli import status
from tests.cli.conftest import Run


def test_where_nothing_runs_that_is_said(run: Run) -> None:
    ran = run("status")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.count("\n") == 1
    assert "plantroom up" in ran.err


def test_what_is_empty_is_left_out_of_a_line() -> None:
    assert status._text({"state": "live", "error": "", "since": None}) == "state live, since null"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (None, "pid 1, does not answer"),
        ({}, "pid 1, answers"),
        ({"refusing_because": ["full"]}, "pid 1, answers, publishes are refused: full"),
        ({"ingest": {"trouble": "full"}}, "pid 1, answers, nothing is stored: full"),
    ],
)
def test_who_refuses_readings_says_why(said: dict[str, Any] | None, text: str) -> None:
    assert status._running({"pids": {"part": 1}, "part": said}, "part") == text
    assert status._running({"pids": {}, "part": said}, "part") == "is being started again"
