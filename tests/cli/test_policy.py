import json

import pytest

from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
STRANGER = "spiffe://building-1.smart.local/agent/hvac-009"


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


@pytest.mark.usefixtures("set_up")
def test_policy_is_explained_with_the_registry_of_the_state_folder(run: Run) -> None:
    own = "v1/building-1/telemetry/hvac-001"
    explain = ("policy", "explain", "--json", "--as")
    allowed = json.loads(run(*explain, HVAC, "publish", own).out)
    assert allowed["allow"] is True
    assert allowed["rule"]
    assert allowed["decision_id"]
    foreign = json.loads(run(*explain, HVAC, "publish", own.replace("hvac", "energy")).out)
    assert (foreign["allow"], foreign["reason"]) == (False, "topic-not-granted")
    unknown = json.loads(run(*explain, STRANGER, "publish", "v1/building-1/telemetry/hvac-009").out)
    assert (unknown["allow"], unknown["reason"]) == (False, "unregistered")
    run("devices", "revoke", "hvac-001")
    assert json.loads(run(*explain, HVAC, "connect").out)["reason"] == "revoked"
