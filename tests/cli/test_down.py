import json

from tests.cli.conftest import Run


def test_where_nothing_runs_there_is_nothing_to_stop(run: Run) -> None:
    ran = run("down")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing runs in" in ran.err
    assert json.loads(run("down", "--json").out)["stopped"] is False
