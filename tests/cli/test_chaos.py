import json
from pathlib import Path
from typing import Any

import pytest

from plantroom.cli import chaos, main
from plantroom.lab.chaos import Storm, Verdict


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the judge will say; what it was asked stands there afterwards."""
    said: dict[str, Any] = {"passed": True, "lost": 0, "duplicated": 0, "misordered": 0}

    def unleash(storm: Storm, *, tell: Any, progress: Any, keep: Path | None) -> Verdict:
        tell("1.0 s: kill cloud")
        progress("calm")
        answer = {key: value for key, value in said.items() if key not in {"storm", "keep"}}
        said.update(storm=storm, keep=keep)
        return Verdict(storm=storm, judged=answer, ledger="closes")

    monkeypatch.setattr(chaos, "unleash", unleash)
    return said


def test_last_line_is_the_verdict_and_faults_go_to_stderr(
    judged: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["chaos", "--seed", "7", "--profile", "storm", "--duration", "30"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].startswith("verdict: PASS lost=0 duplicated=0 misordered=0")
    assert shown.err == "plantroom: 1.0 s: kill cloud\n"
    assert judged["storm"] == Storm(profile="storm", seed=7, duration_s=30)
    assert judged["keep"] is None


def test_failure_is_exit_code_1_and_a_document(
    judged: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged.update(passed=False, lost=3)
    assert main.main(["chaos", "--json", "--state", str(tmp_path / "new")]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["lost"], said["seed"]) == ("FAIL", 3, 1)
    assert judged["keep"] == tmp_path / "new"


@pytest.mark.parametrize(
    "words", [["--duration", "1"], ["--profile", "calm"], ["--seed", "x"]], ids=str
)
def test_wrong_flag_is_exit_code_2(words: list[str]) -> None:
    assert main.main(["chaos", *words]) == 2
