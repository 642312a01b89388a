from plantroom.cli import status
from tests.cli.conftest import Run


def test_where_nothing_runs_that_is_said(run: Run) -> None:
    ran = run("status")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.count("\n") == 1
    assert "plantroom up" in ran.err


def test_what_is_empty_is_left_out_of_a_line() -> None:
    assert status._text({"state": "live", "error": "", "since": None}) == "state live, since null"
