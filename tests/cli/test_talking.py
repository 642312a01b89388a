import pytest

from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("watch", "#"),
        ("publish", "v1/building-1/policy", "--text", "x"),
        ("call", "--target", HVAC, "--capability", "read_sensors"),
        ("readings", "export"),
        ("devices", "ls"),
        ("identity", "entry", "list"),
    ],
)
def test_where_nothing_was_ever_started_that_is_said(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.count("\n") == 1
    assert "plantroom up" in ran.err


def test_data_that_is_not_json_is_a_usage_error(run: Run) -> None:
    ran = run("call", "--target", HVAC, "--capability", "read_sensors", "--data", "{")
    assert ran.code == 2
