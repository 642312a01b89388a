import json
from pathlib import Path

import pytest

from plantroom.certs.attest_store import AttestStore
from plantroom.wire.spiffe import SpiffeId
from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
PRINT = "c" * 64

pytestmark = pytest.mark.usefixtures("set_up")


def test_a_tpm_is_accepted_and_forgotten(run: Run) -> None:
    assert run("identity", "ek", "allow", PRINT, "--note", "bench").code == 0
    assert "bench" in run("identity", "ek", "list").out
    (one,) = json.loads(run("identity", "ek", "list", "--json").out)["eks"]
    assert one["fingerprint"] == PRINT
    assert run("identity", "ek", "forget", PRINT).code == 0
    assert run("identity", "ek", "forget", PRINT).code == 5
    assert run("identity", "ek", "allow", "short").code == 2


def test_golden_sets_are_added_accepted_and_deleted(run: Run, tmp_path: Path) -> None:
    added = run("identity", "golden", "add", "model-3", "--pcr", f"7={PRINT}", "--json")
    assert json.loads(added.out)["pcrs"] == {"7": PRINT}
    assert run("identity", "golden", "accept", HVAC).code == 5  # it has shown nothing
    store = AttestStore(tmp_path / "state" / "gateway" / "registry.db")
    store.check_pcrs(SpiffeId.parse(HVAC), None, {0: bytes(32)})
    store.close()
    assert run("identity", "golden", "accept", HVAC).code == 0
    listed = json.loads(run("identity", "golden", "list", "--json").out)["golden"]
    assert [one["name"] for one in listed] == ["model-3", HVAC]
    assert "model-3" in run("identity", "golden", "list").out
    assert run("identity", "golden", "delete", "model-3").code == 0
    assert run("identity", "golden", "delete", "model-3").code == 5
    for wrong in ("24=" + PRINT, "7=" + PRINT[1:], "x", "7=" + "z" * 64):
        assert run("identity", "golden", "add", "m", "--pcr", wrong).code == 2
