from tests.cli.conftest import Run


def test_where_nothing_runs_that_is_said(run: Run) -> None:
    ran = run("watch", "#")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.count("\n") == 1
    assert "plantroom up" in ran.err


def test_a_filter_is_needed(run: Run) -> None:
    assert run("watch").code == 2
    assert run("watch", "#", "--via", "elsewhere").code == 2


def test_what_is_no_filter_is_a_usage_error(run: Run) -> None:
    for wrong in ("", "bad/#/x", "a+b", "$share/group"):
        ran = run("watch", wrong)
        assert (ran.code, ran.out) == (2, "")
        assert repr(wrong) in ran.err
