from collections import Counter
from pathlib import Path

import pytest

from plantroom.lab.chaos import Storm, Verdict, unleash
from plantroom.wire.errors import ConfigError

GOOD = {"passed": True, "lost": 0, "duplicated": 0, "misordered": 0, "altered": 0}


def verdict(*, ledger: str = "closes", **judged: object) -> Verdict:
    storm = Storm(profile="storm", seed=7, duration_s=60)
    said = GOOD | {"readings": 9, "stored": 9} | judged
    return Verdict(storm=storm, judged=said, ledger=ledger, faults=Counter(kills=2))


def test_verdict_is_the_line_that_scripts_read() -> None:
    assert verdict().line == (
        "verdict: PASS lost=0 duplicated=0 misordered=0 altered=0 readings=9 stored=9"
        " ledger=closes kills=2 profile=storm seed=7 ways=proxies"
    )
    assert verdict().plain["verdict"] == "PASS"


@pytest.mark.parametrize(
    "bad",
    [
        verdict(passed=False, lost=1),
        verdict(ledger="does not close"),
        Verdict(storm=Storm(profile="storm", seed=1, duration_s=5)),
    ],
    ids=["judge", "ledger", "no word from either"],
)
def test_neither_judge_nor_ledger_alone_is_enough(bad: Verdict) -> None:
    assert not bad.passed
    assert bad.line.startswith("verdict: FAIL lost=")
    assert bad.plain["verdict"] == "FAIL"


def test_storm_kills_cloud_gateway_and_every_sensor() -> None:
    storm = Storm(profile="storm", seed=1, duration_s=60, sensors=2, rows_per_s=10)
    assert storm.processes == ("cloud", "gateway", "storm-001", "storm-002")
    assert storm.rows == 660


def test_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    storm = Storm(profile="offline", seed=1, duration_s=5)
    with pytest.raises(ConfigError, match="is not empty"):
        unleash(storm, tell=print, progress=print, keep=tmp_path)
