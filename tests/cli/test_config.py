import json
from pathlib import Path

import pytest

from plantroom.lab.configuration import KINDS
from tests.cli.conftest import Run


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_a_good_configuration_of_its_kind(run: Run, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "sample.toml"
    file.write_text(run("config", "sample", kind).out)
    checked = run("config", "check", str(file), "--json")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out) == {"file": str(file), "kind": kind, "ok": True}


def test_a_wrong_key_is_named_with_file_and_remedy(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[agent]\nnmae = "x"\n')
    ran = run("config", "check", str(file), "--kind", "gateway")
    assert ran.code == 3
    assert str(file) in ran.err
    assert "agent.nmae" in ran.err
    assert "did you mean name?" in ran.err


def test_a_file_that_could_be_of_two_kinds_asks_for_one(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text("[log]\n")
    ran = run("config", "check", str(file))
    assert ran.code == 2
    assert "--kind" in ran.err


def test_a_missing_file_is_exit_code_3(run: Run, tmp_path: Path) -> None:
    ran = run("config", "check", str(tmp_path / "none.toml"))
    assert ran.code == 3
    assert ran.err.count("\n") == 1
