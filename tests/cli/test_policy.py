import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from plantroom import policies
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


def test_a_denial_names_the_nearest_rule_and_what_was_missing(run: Run) -> None:
    ran = run("policy", "explain", "--as", HVAC, "publish", "v1/building-1/telemetry/hvac-001")
    assert "nearest rule: sensor may publish v1/{site}/telemetry/{name}" in ran.out
    assert "it would take a registration entry (role sensor)" in ran.out


def event(topic: str, *, allow: bool) -> dict[str, Any]:
    asked = {
        "spiffe_id": HVAC,
        "cert_serial": "0A",
        "client_id": "hvac-001",
        "action": "publish",
        "topic": topic,
        "qos": 1,
        "retain": False,
    }
    said = {"allow": allow, "reason": "ok" if allow else "topic-not-granted"}
    return {"decision_id": f"d-{topic}", "input": asked, "result": said, "timestamp": "2027"}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Decisions on record in the gateway's state folder."""
    folder = tmp_path / "state" / "gateway" / "policy"
    folder.mkdir(parents=True, exist_ok=True)
    events = [
        event("v1/building-1/telemetry/hvac-001", allow=True),
        event("v1/building-1/telemetry/hvac-002", allow=False),
    ]
    (folder / "decisions.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in events))
    return folder


@pytest.mark.usefixtures("set_up", "recorded")
def test_what_was_decided_is_shown(run: Run) -> None:
    rows = run("policy", "log").out.splitlines()
    assert len(rows) == 3
    assert "topic-not-granted" in rows[2]
    lines = run("policy", "log", "--denied", "--json").out.splitlines()
    assert [json.loads(line)["decision_id"] for line in lines] == [
        "d-v1/building-1/telemetry/hvac-002"
    ]
    assert len(run("policy", "log", "--limit", "1").out.splitlines()) == 2
    assert len(run("policy", "log", "--as", STRANGER).out.splitlines()) == 1
    own = ("publish", "v1/building-1/telemetry/hvac-001")
    assert "last asked 2027: allowed" in run("policy", "explain", "--as", HVAC, *own).out


def test_without_a_record_that_is_said(run: Run) -> None:
    assert run("policy", "log").code == 4


@pytest.mark.usefixtures("set_up", "recorded")
def test_what_a_new_bundle_would_change_is_listed(run: Run, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(policies.bundle_dir(), tmp_path / "new", ignore=ignored)
    acl = tmp_path / "new" / "acl" / "data.json"
    acl.write_text(acl.read_text().replace("v1/{site}/telemetry/{name}", "v1/{site}/t/{name}"))
    old, new = str(policies.bundle_dir()), str(tmp_path / "new")
    same = run("policy", "diff", old, old)
    assert (same.code, "0 answers flip" in same.out) == (0, True)
    ran = run("policy", "diff", old, new)
    assert ran.code == 1
    assert "allowed -> DENIED" in ran.out
    assert "new: mqtt.authz: topic-not-granted" in ran.out
    flips = json.loads(run("policy", "diff", old, new, "--json").out)["flips"]
    assert flips[0]["question"]["topic"] == "v1/building-1/telemetry/hvac-001"


def test_questions_may_come_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps(event("v1/x", allow=False)["input"]) + "\n")
    same = str(policies.bundle_dir())
    ran = run("policy", "diff", same, same, "--questions", str(file))
    assert "1 questions (1 recorded), 0 answers flip" in ran.out
    file.write_text("{")
    assert run("policy", "diff", same, same, "--questions", str(file)).code == 2
