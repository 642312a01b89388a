import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("set_up")
CAMPUS = ("--trust-domain", "campus.local")


def test_a_bundle_is_set_shown_and_listed(run: Run, tmp_path: Path) -> None:
    document = tmp_path / "campus.json"
    shown = run("identity", "bundle", "show", "--trust-domain", "smart-building.cloud", "--json")
    document.write_text(shown.out)
    assert run("identity", "bundle", "show", *CAMPUS).code == 2
    done = run("identity", "bundle", "set", str(document), *CAMPUS, "--json")
    assert json.loads(done.out)["changed"]
    again = run("identity", "bundle", "set", str(document), *CAMPUS, "--json")
    assert not json.loads(again.out)["changed"]
    kept = json.loads(run("identity", "bundle", "show", *CAMPUS, "--json").out)
    assert kept["keys"] == json.loads(shown.out)["keys"]
    listed = json.loads(run("identity", "bundle", "list", "--json").out)["bundles"]
    assert {one["trust_domain"] for one in listed} == {"building-1.smart.local", "campus.local"}
    assert "campus.local" in run("identity", "bundle", "list").out
    elsewhere = run("identity", "bundle", "list", "--at", "smart-building.cloud")
    assert "campus.local" not in elsewhere.out


def test_an_older_bundle_needs_force(run: Run, tmp_path: Path) -> None:
    document = tmp_path / "campus.json"
    table = json.loads(run("identity", "bundle", "show", "--json").out)
    for sequence, words, code in ((7, (), 0), (6, (), 5), (6, ("--force",), 0)):
        document.write_text(json.dumps(table | {"spiffe_sequence": sequence}))
        assert run("identity", "bundle", "set", str(document), *CAMPUS, *words).code == code


def test_what_cannot_be_set_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    assert run("identity", "bundle", "set", str(tmp_path / "none"), *CAMPUS).code == 2
    own = tmp_path / "own.pem"
    own.write_text(run("identity", "bundle", "show").out)
    refused = run("identity", "bundle", "set", str(own), "--trust-domain", "building-1.smart.local")
    assert refused.code == 2
    (tmp_path / "other.json").write_text('{"elsewhere.example": {"keys": []}}')
    assert run("identity", "bundle", "set", str(tmp_path / "other.json"), *CAMPUS).code == 2
