import json
from pathlib import Path

import pytest

from plantroom.lab import setup
from plantroom.lab.building import Names, simulated
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
NEW = "spiffe://building-1.smart.local/agent/hvac-009"


@pytest.fixture
def _set_up(tmp_path: Path) -> None:
    setup.prepare(Layout(tmp_path / "state"), Flags(), simulated(3, seed=1, names=Names()))


pytestmark = pytest.mark.usefixtures("_set_up")


def test_an_entry_is_created_shown_listed_and_deleted(run: Run) -> None:
    created = run("identity", "entry", "create", NEW, "--selector", "tpm:pub_hash:ab", "--json")
    assert created.code == 0
    entry = json.loads(created.out)
    assert (entry["spiffe_id"], entry["role"]) == (NEW, "sensor")
    assert entry["selectors"] == ["tpm:pub_hash:ab"]
    assert json.loads(run("identity", "entry", "show", NEW, "--json").out) == entry
    assert NEW in run("identity", "entry", "list").out
    assert run("identity", "entry", "delete", NEW).code == 0
    missing = run("identity", "entry", "show", NEW)
    assert missing.code == 5
    assert NEW in missing.err


def test_a_token_needs_an_entry(run: Run) -> None:
    token = run("identity", "token", "create", HVAC, "--json")
    assert json.loads(token.out)["spiffe_id"] == HVAC
    assert len(json.loads(token.out)["token"]) >= 32
    assert run("identity", "token", "create", NEW).code == 5


def test_a_bundle_is_shown_as_pem_and_as_spiffe(run: Run) -> None:
    assert "BEGIN CERTIFICATE" in run("identity", "bundle", "show").out
    shown = run("identity", "bundle", "show", "--trust-domain", "smart-building.cloud", "--json")
    assert json.loads(shown.out)["keys"][0]["use"] == "x509-svid"
    assert run("identity", "bundle", "show", "--trust-domain", "other.example").code == 2


def test_nothing_was_issued_before_anything_ran(run: Run) -> None:
    assert run("identity", "svid", "show").out == ""
    assert run("identity", "svid", "show", NEW).code == 5


def test_a_device_is_revoked_and_restored(run: Run) -> None:
    assert run("devices", "revoke", "hvac-001", "--reason", "stolen").code == 0
    listed = {
        one["device"]: one for one in json.loads(run("devices", "ls", "--json").out)["devices"]
    }
    assert (listed["hvac-001"]["status"], listed["hvac-001"]["reason"]) == ("revoked", "stolen")
    assert listed["energy-001"]["status"] == "active"
    assert listed["hvac-001"]["online"] is None
    assert run("devices", "restore", HVAC).code == 0
    assert run("devices", "restore", HVAC).code == 1
    assert run("devices", "revoke", "hvac-009").code == 5


def test_policy_is_explained_with_the_registry_of_the_state_folder(run: Run) -> None:
    own = "v1/building-1/telemetry/hvac-001"
    explain = ("policy", "explain", "--json", "--as")
    allowed = json.loads(run(*explain, HVAC, "publish", own).out)
    assert allowed["allow"] is True
    assert allowed["rule"]
    assert allowed["decision_id"]
    foreign = json.loads(run(*explain, HVAC, "publish", own.replace("hvac", "energy")).out)
    assert (foreign["allow"], foreign["reason"]) == (False, "topic-not-granted")
    unknown = json.loads(run(*explain, NEW, "publish", "v1/building-1/telemetry/hvac-009").out)
    assert (unknown["allow"], unknown["reason"]) == (False, "unregistered")
    run("devices", "revoke", "hvac-001")
    assert json.loads(run(*explain, HVAC, "connect").out)["reason"] == "revoked"
