import json

import pytest

from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
NEW = "spiffe://building-1.smart.local/agent/hvac-009"


pytestmark = pytest.mark.usefixtures("set_up")


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


def test_an_entry_has_what_spires_has_and_is_found_by_it(run: Run) -> None:
    gateway = "spiffe://building-1.smart.local/agent/gateway"
    made = run(
        *("identity", "entry", "create", NEW, "--parent", gateway, "--ttl", "600"),
        *("--selector", "tpm:pub_hash:ab", "--selector", "tpm:golden:v1", "--dns", "h9.local"),
        *("--ip", "10.0.0.9", "--json"),
    )
    entry = json.loads(made.out)
    assert (entry["parent"], entry["ttl_s"]) == (gateway, 600)
    assert entry["selectors"] == ["tpm:pub_hash:ab", "tpm:golden:v1"]
    assert (entry["dns"], entry["ips"]) == (["h9.local"], ["10.0.0.9"])
    for words in (("--parent", gateway), ("--selector", "tpm:golden:v1")):
        listed = json.loads(run("identity", "entry", "list", *words, "--json").out)["entries"]
        assert [one["spiffe_id"] for one in listed] == [NEW]
    assert NEW not in run("identity", "entry", "list", "--role", "gateway").out
    for broken in (("--parent", "nobody"), ("--selector", "alone"), ("--ttl", "1")):
        assert run("identity", "entry", "create", NEW, *broken).code == 2


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
