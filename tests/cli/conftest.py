"""The command as a user runs it, in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from plantroom.cli.main import main
from plantroom.lab import setup
from plantroom.lab.building import Names, simulated
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `plantroom WORDS…` with a state folder of its own, and return what came of it."""
    monkeypatch.setenv("PLANTROOM_STATE", str(tmp_path / "state"))

    def running(*words: str) -> Ran:
        code = main(words)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return running


@pytest.fixture
def set_up(tmp_path: Path) -> None:
    """Leave the state folder as `up` does before it starts anything."""
    setup.prepare(Layout(tmp_path / "state"), Flags(), simulated(3, seed=1, names=Names()))
