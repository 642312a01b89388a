import json
import sys

import pytest

from plantroom.cli import output


def test_data_and_notes_go_their_own_ways(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"place": "Büro", "value": 1.5})
    output.note("for people")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"place": "Büro", "value": 1.5}
    assert captured.out.count("\n") == 1
    assert captured.err == "plantroom: for people\n"


def test_a_table_is_aligned_and_has_no_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "LONG"), [("value", None), ("x", 3)])
    assert capsys.readouterr().out == "A      LONG\nvalue\nx      3\n"


def test_progress_is_for_terminals_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = output.Progress()
    silent.show("waiting")
    silent.clear()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = output.Progress()
    shown.show("waiting")
    shown.clear()
    assert "waiting" in capsys.readouterr().err
