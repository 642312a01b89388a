import json
from pathlib import Path

import pytest
from cryptography import x509

from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("set_up")
CLOUD = ("--trust-domain", "smart-building.cloud")


def shown(run: Run, *words: str) -> list[str]:
    table = json.loads(run("identity", "authority", "show", *words, "--json").out)
    return [root["state"] for root in table["roots"]]


def test_a_root_is_prepared_activated_and_retired(run: Run) -> None:
    assert shown(run) == ["active"]
    prepared = run("identity", "authority", "prepare", "--json")
    assert json.loads(prepared.out)["state"] == "prepared"
    early = run("identity", "authority", "activate")
    assert early.code == 1
    assert "--force" in early.err
    assert run("identity", "authority", "activate", "--force").code == 0
    assert shown(run) == ["old", "active"]
    assert run("identity", "authority", "retire", "--force").code == 0
    assert "root-2" in run("identity", "authority", "show").out
    assert shown(run, *CLOUD) == ["active"]


def test_a_step_out_of_turn_is_a_usage_error(run: Run) -> None:
    for step in ("activate", "retire"):
        assert run("identity", "authority", step, *CLOUD).code == 2


def test_a_request_is_printed_and_a_chain_that_is_none_refused(run: Run, tmp_path: Path) -> None:
    assert "BEGIN CERTIFICATE REQUEST" in run("identity", "authority", "request").out
    assert "csr" in json.loads(run("identity", "authority", "request", "--json").out)
    (tmp_path / "chain.pem").write_text("nothing")
    refused = run("identity", "authority", "prepare", "--chain", str(tmp_path / "chain.pem"))
    assert refused.code == 5
    missing = run("identity", "authority", "prepare", "--chain", str(tmp_path / "none.pem"))
    assert missing.code == 2


def test_options_that_belong_together_are_asked_for_together(run: Run, tmp_path: Path) -> None:
    assert run("identity", "authority", "prepare", "--hsm-token", "t").code == 2
    assert run("identity", "authority", "prepare", "--key", str(tmp_path / "k.pem")).code == 2


def test_peoples_tools_know_the_roots_of_now(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "operator"
    before = (folder / "bundles.json").read_text()
    for step in (("prepare",), ("activate", "--force"), ("retire", "--force")):
        assert run("identity", "authority", *step, *CLOUD).code == 0
    after = (folder / "bundles.json").read_text()
    assert json.loads(after).keys() == json.loads(before).keys()
    assert after != before
    certificate = (folder / "cert.pem").read_bytes()
    root = run("identity", "bundle", "show", *CLOUD).out.encode()
    leaf, signer = (x509.load_pem_x509_certificate(part) for part in (certificate, root))
    leaf.verify_directly_issued_by(signer)
