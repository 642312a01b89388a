"""The judge finds what it is there to find, and shares no code with what it judges."""

import ast
import json
import sys
from pathlib import Path

import pytest

from plantroom.lab import chaos_judge
from plantroom.lab.chaos_judge import Row, compare, produced, stored

HEAD = "time,site,device,point,value,unit,epoch,seq,received_at,late"


def row(number: int, value: float = 20.0) -> Row:
    return f"2026-01-05T00:00:{number:02}Z", (("humidity", 40.0), ("temperature", value))


def counts(wanted: list[Row], found: list[Row]) -> dict[str, int]:
    return {word: len(what) for word, what in compare(wanted, found).items()}


WANTED = [row(number) for number in range(10)]
NOTHING = {"lost": 0, "duplicated": 0, "misordered": 0, "altered": 0}


def test_equal_lists_pass() -> None:
    assert counts(WANTED, list(WANTED)) == NOTHING


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (WANTED[:4] + WANTED[5:], {"lost": 1}),
        (WANTED[:5] + WANTED[4:], {"duplicated": 1, "misordered": 0}),
        ([*WANTED[:4], WANTED[5], WANTED[4], *WANTED[6:]], {"misordered": 1}),
        ([*WANTED[:4], row(4, 21.0), *WANTED[5:]], {"altered": 1}),
        ([*WANTED, row(40)], {"altered": 1}),
        ([], {"lost": 10}),
    ],
    ids=["lost", "doubled", "misordered", "altered", "made up", "all lost"],
)
def test_each_defect_is_counted_as_what_it_is(found: list[Row], wrong: dict[str, int]) -> None:
    assert counts(WANTED, found) == NOTHING | wrong


def test_export_is_read_reading_by_reading() -> None:
    lines = [
        HEAD,
        "2026-01-05T00:00:01Z,b,storm-001,humidity,40,%RH,7,0,2026-01-05T00:00:02Z,false",
        "2026-01-05T00:00:01Z,b,storm-001,temperature,20,Cel,7,0,2026-01-05T00:00:02Z,false",
        "2026-01-05T00:00:02Z,b,storm-001,humidity,40,%RH,7,1,2026-01-05T00:00:02Z,false",
        "2026-01-05T00:00:02Z,b,storm-001,temperature,20,Cel,7,1,2026-01-05T00:00:02Z,false",
    ]
    assert list(stored(lines)) == [row(1), row(2)]


def test_verdict_is_one_document_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "storm-001.csv"
    recording.write_text("date,temperature,humidity\n2026-01-05 00:00:01,20.0,40.0\n")
    assert produced(recording) == [row(1)]
    monkeypatch.setattr(chaos_judge, "exported", lambda _state, _device: [row(1)])
    assert chaos_judge.main([str(tmp_path), f"storm-001={recording}"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    monkeypatch.setattr(chaos_judge, "exported", lambda _state, _device: [])
    assert chaos_judge.main([str(tmp_path), f"storm-001={recording}"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["lost"], said["named"]) == (1, {"lost": ["storm-001 2026-01-05T00:00:01Z"]})


def test_judge_imports_the_standard_library_only() -> None:
    tree = ast.parse(Path(chaos_judge.__file__).read_text(encoding="utf-8"))
    names = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        str(node.module).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert names <= set(sys.stdlib_module_names)
