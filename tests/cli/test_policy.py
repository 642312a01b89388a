import json

from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"


def test_without_a_state_folder_nobody_is_registered(run: Run) -> None:
    ran = run("policy", "explain", "--as", HVAC, "connect", "--json")
    assert ran.code == 0
    decision = json.loads(ran.out)
    assert (decision["allow"], decision["reason"]) == (False, "unregistered")
    assert {"rule", "revision", "decision_id"} <= decision.keys()
    assert "denied (unregistered)" in run("policy", "explain", "--as", HVAC, "connect").out


def test_the_policys_own_tests_pass(run: Run) -> None:
    ran = run("policy", "test")
    assert ran.code == 0, ran.out
    assert "0 failed" in ran.out
    assert json.loads(run("policy", "test", "--json").out)["passed"] is True


def test_an_action_without_a_topic_is_a_usage_error(run: Run) -> None:
    assert run("policy", "explain", "--as", HVAC, "publish").code == 2
