from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"


def test_where_nothing_runs_that_is_said(run: Run) -> None:
    ran = run("call", "--target", HVAC, "--capability", "read_sensors")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.count("\n") == 1
    assert "plantroom up" in ran.err


def test_data_that_is_not_json_is_a_usage_error(run: Run) -> None:
    ran = run("call", "--target", HVAC, "--capability", "read_sensors", "--data", "{")
    assert (ran.code, ran.out) == (2, "")
    assert "--data" in ran.err


def test_a_target_and_a_capability_are_needed(run: Run) -> None:
    assert run("call", "--target", HVAC).code == 2
    assert run("call", "--capability", "read_sensors").code == 2
