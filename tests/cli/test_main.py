import os
import subprocess
import sys
from pathlib import Path

import pytest

from plantroom.cli import main as module
from plantroom.cli.main import COMMANDS, chosen_command, main
from plantroom.wire.errors import (
    CheckFailedError,
    ConfigError,
    PlantroomError,
    RefusedError,
    StorageError,
    UnreachableError,
    UsageError,
)
from tests.cli.conftest import Run

PROGRAM = (sys.executable, "-m", "plantroom.cli.main")


def test_help_lists_every_command_and_imports_none() -> None:
    probe = (
        "import sys\nfrom plantroom.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'cryptography', 'aiomqtt', 'sqlite3', 'starlette', 'asyncio', 'cbor2', 'ssl'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True
    )
    for name, text in COMMANDS.items():
        assert f"\n    {name} " in done.stdout
        assert text.split()[0] in done.stdout
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(("given", "kept"), [(0o000, 0o022), (0o022, 0o022), (0o077, 0o077)])
def test_what_a_command_makes_others_cannot_write(given: int, kept: int) -> None:
    before = os.umask(given)
    try:
        main(["config", "sample", "broker"])
    finally:
        found = os.umask(before)
    assert found == kept


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"plantroom {name}" in shown
    assert COMMANDS[name].split()[0].lower() in shown.lower()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("status", "--nonsense"),
        ("ledger",),
        ("ledger", "nonsense"),
        ("up", "--devices", "many"),
        ("up", "--sta", "x"),
        ("call", "--target", "not-an-id", "--capability", "x"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("plantroom: ")
    assert ran.err.count("\n") == 1
    assert "--help" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("w"), 2),
        (ConfigError("w"), 3),
        (UnreachableError("w"), 4),
        (RefusedError("w", reason="r"), 5),
        (StorageError("w"), 1),
        (CheckFailedError("w"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("w"), 1),
    ],
)
def test_every_end_has_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(_words: object) -> None:
        raise error

    monkeypatch.setattr(module, "command_parser", fail)
    ran = run("status")
    assert ran.code == code
    assert ran.out == ""
    assert ran.err.count("\n") == (0 if isinstance(error, KeyboardInterrupt) else 1)


def test_an_error_names_what_where_and_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_words: object) -> None:
        raise PlantroomError("it broke", where="there", remedy="mend it")

    monkeypatch.setattr(module, "command_parser", fail)
    assert run("status").err == "plantroom: it broke, there: mend it\n"
    traced = run("status", "--debug").err
    assert "Traceback" in traced
    assert traced.endswith("plantroom: it broke, there: mend it\n")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["--state", "status", "down"], "down"),
        (["--json", "status", "--state", "x"], "status"),
        (["--state=x", "watch"], "watch"),
        (["--help"], None),
        ([], None),
    ],
)
def test_the_command_is_found_behind_global_options(words: list[str], command: str | None) -> None:
    assert chosen_command(words) == command


def test_global_options_stand_before_or_behind_the_command(run: Run, tmp_path: Path) -> None:
    before = run("--state", str(tmp_path / "a"), "--json", "down")
    behind = run("down", "--json", "--state", str(tmp_path / "a"))
    assert before == behind
    assert before.code == 0


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = " ".join([*PROGRAM, "config", "sample", "gateway"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("#")
