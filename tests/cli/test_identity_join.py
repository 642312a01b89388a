"""A new device and its identity, in either order, by the commands alone."""

import json
from pathlib import Path

import pytest

from plantroom.certs import join_code
from plantroom.certs.attest_store import EK, KEY, AttestStore
from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
NEW = "spiffe://building-1.smart.local/agent/hvac-009"
KEY_PRINT, EK_PRINT = "a" * 64, "b" * 64

pytestmark = pytest.mark.usefixtures("set_up")


def test_a_token_comes_alone_as_a_code_and_as_json(run: Run) -> None:
    alone = run("identity", "token", "create", HVAC)
    assert len(alone.out.splitlines()) == 1  # what scripts keep in a file
    code = join_code.parse(run("identity", "token", "create", HVAC, "--code").out)
    found = json.loads(run("identity", "token", "create", HVAC, "--json").out)
    sha256 = run("identity", "bundle", "show", "--format", "sha256").out.strip()
    assert code.root_sha256 == found["bundle_sha256"] == sha256
    assert str(code.spiffe_id) == HVAC
    assert code.address == found["address"]
    elsewhere = run("identity", "token", "create", HVAC, "--code", "--address", "gw.local:8444")
    assert join_code.parse(elsewhere.out).address == "gw.local:8444"


def test_a_qr_code_is_drawn_where_it_is_asked_for(run: Run) -> None:
    drawn = run("identity", "token", "create", HVAC, "--qr")
    token, code, *qr = drawn.out.splitlines()
    assert join_code.parse(code).token == token
    assert len(qr) > 20
    assert "10 minutes" in drawn.err


def test_who_waits_is_listed_and_admitted_as_key_or_as_chip(run: Run, tmp_path: Path) -> None:
    store = AttestStore(tmp_path / "state" / "gateway" / "registry.db")
    store.wait(KEY_PRINT, KEY, claim=NEW, peer="10.0.0.9:1")
    store.wait(EK_PRINT, EK, claim="", peer="10.0.0.10:1")
    pending = json.loads(run("identity", "pending", "--json").out)["pending"]
    assert {(one["fingerprint"], one["kind"]) for one in pending} == {
        (KEY_PRINT, "key"),
        (EK_PRINT, "ek"),
    }
    assert KEY_PRINT in run("identity", "pending").out
    groups = [KEY_PRINT[at : at + 16].upper() for at in range(0, 64, 16)]
    admitted = run("identity", "admit", *groups, "--spiffe-id", NEW, "--json")
    assert json.loads(admitted.out)["of"] == "key"
    assert str(store.admitted(KEY_PRINT)) == NEW
    assert json.loads(run("identity", "entry", "show", NEW, "--json").out)["role"] == "sensor"
    chip = run("identity", "admit", EK_PRINT, "--spiffe-id", HVAC)
    assert "chip" in chip.err
    entry = json.loads(run("identity", "entry", "show", HVAC, "--json").out)
    assert entry["selectors"] == [f"tpm:pub_hash:{EK_PRINT}"]
    store.close()
    for wrong in ("nonsense", f"tpm:pub_hash:{EK_PRINT}"):
        assert run("identity", "admit", wrong, "--spiffe-id", NEW).code == 2


def test_a_sensor_shows_what_has_to_be_admitted(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "sensor.toml"
    config.write_text(f'[agent]\nname = "hvac-009"\nstate = "{tmp_path / "sensor"}"\n')
    shown = json.loads(run("identity", "fingerprint", str(config), "--json").out)
    assert shown["admit"] == (f"plantroom identity admit {shown['fingerprint']} --spiffe-id {NEW}")
    again = run("identity", "fingerprint", str(config), "--qr").out.splitlines()
    assert again[:2] == [shown["fingerprint"], shown["admit"]]
    config.write_text(
        f'[agent]\nname = "hvac-009"\nstate = "{tmp_path / "sensor"}"\n'
        '[identity]\nattestor = "tpm"\ntpm = "/no/such/tpm"\n'
    )
    assert run("identity", "fingerprint", str(config)).code == 4
