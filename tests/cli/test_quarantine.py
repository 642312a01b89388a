import json
from pathlib import Path

import pytest

from plantroom.lab.layout import Layout
from tests.cli.conftest import Run
from tests.fakes.readings import hvac_reading
from tests.lab.test_quarantine import set_apart


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state")


def test_what_was_set_apart_is_listed_shown_and_replayed(run: Run, layout: Layout) -> None:
    set_apart(layout, hvac_reading(0).canonical())
    assert "gateway:1" in run("quarantine", "ls").out
    (item,) = json.loads(run("quarantine", "ls", "--json").out)["quarantined"]
    assert (item["name"], item["bytes_kept"], item["can_replay"]) == ("gateway:1", True, True)
    shown = json.loads(run("quarantine", "show", "gateway:1", "--json").out)
    assert bytes.fromhex(shown["raw"]) == hvac_reading(0).canonical()
    assert shown["decoded"]["reading"]["seq"] == 0
    assert "unreadable" in run("quarantine", "show", "gateway:1").out
    replayed = run("quarantine", "replay", "gateway:1")
    assert (replayed.code, "1 readings were new" in replayed.err) == (0, True)
    assert json.loads(run("quarantine", "ls", "--json").out)["quarantined"] == []
    assert "replayed" in run("quarantine", "ls", "--all").out
    assert run("quarantine", "ls", "--at", "cloud").out.count("\n") == 1


def test_a_replay_that_is_refused_again_ends_with_1(run: Run, layout: Layout) -> None:
    set_apart(layout, b"\xff")
    refused = run("quarantine", "replay", "gateway:1")
    assert refused.code == 1
    assert "1 of 1 are refused again" in refused.err


def test_a_drop_needs_a_reason(run: Run, layout: Layout) -> None:
    set_apart(layout, b"\xff", bytes_max=0)
    assert "not kept" in run("quarantine", "ls").out
    assert run("quarantine", "drop", "gateway:1").code == 2
    assert run("quarantine", "drop", "gateway:1", "--reason", " ").code == 2
    assert run("quarantine", "drop", "gateway:1", "--reason", "a broken logger").code == 0
    assert "dropped: a broken logger" in run("quarantine", "ls", "--all").out
    assert run("quarantine", "drop", "gateway:9", "--reason", "x").code == 2
