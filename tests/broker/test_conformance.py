"""Every normative statement that binds a server: where it is obeyed, and which test says so.

A mark is `[MQTT-3.1.4-2]` for a statement of MQTT 5.0, and the same with `3.1.1 ` before it for one
of MQTT 3.1.1, in a comment or docstring. `python -m pytest -s -k statements` prints what is open.
"""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MARK = re.compile(r"(3\.1\.1 )?\[MQTT-([\d.-]+)\]")
VERSIONS = {"5.0": "statements_v5.toml", "3.1.1": "statements_v311.toml"}
COUNTS = {"5.0": 251, "3.1.1": 141}

Statements = dict[str, dict[str, str]]


def load(version: str) -> Statements:
    text = (Path(__file__).parent / VERSIONS[version]).read_text(encoding="utf-8")
    found: Statements = tomllib.loads(text)["statements"]
    return found


V5, V311 = load("5.0"), load("3.1.1")


def marks(paths: list[Path]) -> dict[str, set[str]]:
    """The marks in these files, by version."""
    found: dict[str, set[str]] = {version: set() for version in VERSIONS}
    for path in paths:
        for old, number in MARK.findall(path.read_text(encoding="utf-8")):
            found["3.1.1" if old else "5.0"].add(number)
    return found


IN_CODE = marks(sorted((ROOT / "broker").glob("*.py")))
IN_TESTS = marks(
    [p for p in sorted((ROOT / "tests" / "broker").glob("test_*.py")) if p != Path(__file__)]
)


@pytest.mark.parametrize("version", VERSIONS)
def test_statements_are_whole(version: str) -> None:
    statements = load(version)
    assert len(statements) == COUNTS[version]
    for number, statement in statements.items():
        assert re.fullmatch(r"\d+[.-]\d+\.\d+-\d+", number)
        assert statement["by"] in {"server", "client", "both"}, number
        assert statement["says"], number
        assert statement.keys() <= {"by", "says", "same", "excused"}
        if "same" in statement:
            assert statement["same"] in V5, number


def test_marks_are_of_statements_that_there_are() -> None:
    for where in (IN_CODE, IN_TESTS):
        assert where["5.0"] <= V5.keys()
        assert where["3.1.1"] <= V311.keys()


def uncovered(version: str, where: dict[str, set[str]]) -> list[str]:
    found = []
    for number, statement in load(version).items():
        if statement["by"] == "client" or "excused" in statement:
            continue
        same = statement.get("same", "")
        if "excused" in V5.get(same, {}):
            continue
        if number not in where[version] and same not in where["5.0"]:
            found.append(number)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_statements_of_a_server_have_a_mark_in_the_code(version: str) -> None:
    missing = uncovered(version, IN_CODE)
    print(f"MQTT {version}: {len(missing)} statements without a mark: {missing}")  # noqa: T201 -- -s shows it
    assert missing == []


@pytest.mark.parametrize("version", VERSIONS)
def test_statements_of_a_server_have_a_test(version: str) -> None:
    missing = uncovered(version, IN_TESTS)
    print(f"MQTT {version}: {len(missing)} statements without a test: {missing}")  # noqa: T201 -- -s shows it
    assert missing == []


def test_nothing_is_excused_that_is_marked() -> None:
    for version in VERSIONS:
        excused = {number for number, s in load(version).items() if "excused" in s}
        assert not excused & IN_CODE[version]
