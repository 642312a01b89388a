import json
from pathlib import Path

import pytest

from plantroom.cli.main import main
from tests.broker.test_at_rest import left_behind
from tests.lab.test_broker_admin import answering


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "broker.toml"
    file.write_text(f'[admin]\nsocket = "{tmp_path / "broker.sock"}"\n')
    return str(file)


def test_retained_messages_are_listed_and_pruned(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(tmp_path / "broker.sock"):
        assert main(["broker", "retained", "ls", "--config", config]) == 0
        head, row = capsys.readouterr().out.splitlines()
        assert head.split() == ["TOPIC", "QOS", "BYTES", "SINCE", "PUBLISHER"]
        assert row.startswith("a/b    1    1      2")
        assert main(["broker", "retained", "ls", "x/#", "--json", "--config", config]) == 0
        assert json.loads(capsys.readouterr().out) == {"running": True, "retained": []}
        assert main(["broker", "retained", "--json", "--config", config]) == 0
        assert len(json.loads(capsys.readouterr().out)["retained"]) == 1
        assert main(["broker", "prune", "x/#", "--json", "--config", config]) == 0
        assert json.loads(capsys.readouterr().out) == {"forgotten": 0}
        assert main(["broker", "retained", "prune", "a/#", "--json", "--config", config]) == 0
        assert json.loads(capsys.readouterr().out) == {"forgotten": 1}


def test_sessions_are_listed_and_nobody_is_kicked(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(tmp_path / "broker.sock"):
        assert main(["broker", "sessions", "--config", config]) == 0
        assert capsys.readouterr().out.startswith("CLIENT ID  LINK")
        assert main(["broker", "sessions", "--json", "--config", config]) == 0
        assert json.loads(capsys.readouterr().out) == {"running": True, "sessions": []}
        assert main(["broker", "kick", "nobody", "--config", config]) == 1
        assert "no connection, nobody" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["sessions"], ["kick", "x"], ["retained", "ls", "--at", "cloud"]]
)
def test_where_nothing_runs_it_is_said(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", *words, "--state", str(tmp_path)]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "no broker answers" in line
    assert ("cloud" if "cloud" in words else "gateway") in line


def test_database_answers_where_no_broker_runs(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "broker.db"
    left_behind(database)
    with Path(config).open("a") as file:
        file.write(f'[store]\npath = "{database}"\n')
    assert main(["broker", "sessions", "--json", "--config", config]) == 0
    said = capsys.readouterr()
    assert "no broker runs there" in said.err
    (session,) = json.loads(said.out)["sessions"]
    assert (session["client_id"], session["connected"]) == ("phone", False)
    assert main(["broker", "retained", "--config", config]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("a/b")
    assert main(["broker", "retained", "ls", "c/#", "--json", "--config", config]) == 0
    assert json.loads(capsys.readouterr().out) == {"running": False, "retained": []}
    assert main(["broker", "prune", "a/#", "--config", config]) == 4


def test_one_broker_at_a_time_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "sessions", "--at", "cloud", "--config", "x"]) == 2
    assert "not allowed with" in capsys.readouterr().err
