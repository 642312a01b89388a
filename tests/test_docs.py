"""The pages: made from the code or run against it, with links that lead somewhere."""

import ast
import csv
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.cli.main import command_parser
from plantroom.wire.errors import UsageError
from tests import reference
from tests.fakes.ports import free_port, free_ports
from tests.system.conftest import PLANTROOM, Building

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
HOW_TOS = sorted((ROOT / "docs" / "how-to").glob("*.md"))
COMMAND_S = 60
EXAMPLE_PORT_BASE = 18830


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


# What is made from the code ----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), "run `make docs`"


# Links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(page.read_text("utf-8")))
    for target in targets:
        path = target.partition("#")[0]
        if path and "://" not in path:
            assert (page.parent / path).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        here = waiting.pop()
        if here in reached or not here.exists():
            continue
        reached.add(here)
        links = re.findall(r"\]\(([^)\s#]+\.md)", here.read_text("utf-8"))
        waiting += [(here.parent / link).resolve() for link in links if "://" not in link]
    assert page in reached or page == ROOT / "docs" / "reference" / "README.md"


def test_every_decision_is_listed_and_says_what_it_cost() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))
    for path in ADRS:
        text = path.read_text("utf-8")
        title = re.match(r"# \d+\. (.*)\n", text)
        assert title is not None
        assert f"]({path.name}) | " in index
        assert re.search(r"^Accepted, \d{4}-\d\d-\d\d\.$", text, re.MULTILINE), path.name
        assert "## Cost" in text, path.name


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


# Commands that are shown -------------------------------------------------------------------------


def shown_commands() -> list[tuple[str, str]]:
    """Every line of a code block that starts a program of ours, with the page it is on."""
    found = []
    for page in PAGES:
        if page.name == "cli.md":
            continue
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.splitlines():
                command = line.removeprefix("$ ").partition(" > ")[0].strip()
                if re.match(r"(\.venv/bin/)?plantroom |make ", command):
                    found.append((named(page), command))
    return sorted(set(found))


def makes() -> set[str]:
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


@pytest.mark.parametrize(("page", "command"), shown_commands())
def test_a_command_that_is_shown_exists_as_it_is_shown(page: str, command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert words[1] in makes(), page
        return
    try:
        command_parser(words[1:]).parse_args(words[1:])
    except UsageError as error:
        pytest.fail(f"{page}: {command}: {error}")


def test_every_target_that_make_shows_is_there_and_named_phony() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split())  # type: ignore[union-attr]
    assert phony == makes()
    for name in re.findall(r"`make ([a-z]+)", (ROOT / "README.md").read_text("utf-8")):
        assert name in phony


# Against a running building ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def building(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Building]:
    made = Building(tmp_path_factory.mktemp("docs") / ".plantroom")
    try:
        port = free_port()
        environ = {
            "PLANTROOM_SERVER_ENABLED": "true",
            "PLANTROOM_SERVER_PORT": str(port),
            "PLANTROOM_METRICS_ENABLED": "true",
        }
        made.start("--speed", "60", "--devices", "1", environ=environ)  # a reading a second
        made.ready["device"] = {"http": f"http://127.0.0.1:{port}"}
        yield made
    finally:
        made.close()


def to_run() -> dict[str, list[str]]:
    """By page, the commands of blocks that are marked to be run against a running building."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        pattern = r"<!-- run: against a running building[^\n]*-->\n```console\n(.*?)```"
        for block in re.findall(pattern, page.read_text("utf-8"), re.DOTALL):
            lines = [line.removeprefix("$ ") for line in block.splitlines()]
            found.setdefault(named(page), []).extend(lines)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", to_run())
def test_commands_do_what_their_page_says(building: Building, page: str) -> None:
    """In one test: the later ones stand on the earlier, and workers share tests out one by one."""
    for command in to_run()[page]:
        does_as_told(building, page, command)


def does_as_told(building: Building, page: str, command: str) -> None:
    words = shlex.split(command.replace(".plantroom/", f"{building.state}/"))
    offset = {str(EXAMPLE_PORT_BASE + n): str(building.port_base + n) for n in range(7)}
    words = [offset.get(word, word) for word in words]
    if words[0].endswith("plantroom"):
        words = [*PLANTROOM, "--state", str(building.state), *words[1:]]
    elif shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed here")
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=COMMAND_S, cwd=building.state
    )
    assert done.returncode == 0, f"{page}: {command}\n{done.stdout}{done.stderr}{building.logs()}"
    assert done.stdout.strip() or "verify" in command


def test_a_csv_of_ones_own_is_replayed_as_the_page_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "how-to" / "replay-your-own-csv.md").read_text("utf-8")
    (table,) = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (tmp_path / "room.csv").write_text(table, encoding="utf-8")
    commands = re.findall(r"^\$ plantroom (.*)$", text, re.MULTILINE)
    wanted = [2, 0, 0, 0]
    assert len(commands) == len(wanted)
    printed = []
    for command, code in zip(commands, wanted, strict=True):
        words, _, target = command.partition(" > ")
        extra = ["--port-base", str(free_ports(7))] if command.startswith("up") else []
        done = subprocess.run(
            [*PLANTROOM, *shlex.split(words), *extra],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        if target:
            (tmp_path / target).write_text(done.stdout, encoding="utf-8")
        printed.append(done.stdout)
    stored = csv.DictReader(io.StringIO(printed[2]))
    found = {(row["time"], row["point"], row["value"]) for row in stored}
    assert found == {
        (f"{row['when'].replace(' ', 'T')}Z", point, row[point])
        for row in csv.DictReader(io.StringIO(table))
        for point in ("temp", "co2")
    }


def test_the_broker_runs_alone_as_the_page_says(tmp_path: Path) -> None:
    """Every configuration is checked; the first is run, and all commands that look after it."""
    text = (ROOT / "docs" / "how-to" / "broker.md").read_text("utf-8")
    configs = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    commands = re.findall(r"^\$ plantroom (.*)$", text, re.MULTILINE)
    config = tmp_path / "broker.toml"

    def plantroom(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*PLANTROOM, *shlex.split(command)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    for written in reversed(configs):  # the first is checked last, and run
        config.write_text(written, encoding="utf-8")
        assert plantroom("config check broker.toml").returncode == 0, written
    ports = free_port(), free_port()
    config.write_text(
        configs[0].replace("1883", str(ports[0])).replace("9464", str(ports[1])), encoding="utf-8"
    )
    with subprocess.Popen(
        [*PLANTROOM, "broker", "run", "broker.toml"], cwd=tmp_path, stderr=subprocess.PIPE
    ) as broker:
        try:
            assert broker.stderr is not None
            assert any(b"listening on" in line for line in broker.stderr)
            codes = {
                command: plantroom(command).returncode
                for command in commands
                if not command.startswith("broker run")
            }
        finally:
            broker.terminate()
            broker.communicate(timeout=COMMAND_S)
    assert broker.returncode == 0
    kick = "broker kick sensor-7 --config broker.toml"
    assert codes == {command: 1 if command == kick else 0 for command in codes}
    assert len(codes) == 7
    assert plantroom("broker sessions --config broker.toml").returncode == 0, "from its database"


# Metrics -----------------------------------------------------------------------------------------


def names_in_the_code() -> re.Pattern[str]:
    """Every name of a metric that the product spells; a part made at run time may be any word."""
    found = set()
    for path in ROOT.glob("*/*.py"):
        if path.parent.name != "tests":
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.add("".join(map(piece, node.values)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return re.compile("|".join(name for name in found if re.fullmatch(r"plantroom_\S+", name)))


def piece(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "[a-z]+"


def test_every_metric_of_a_running_building_is_documented_as_it_is(building: Building) -> None:
    known = {figure.name: figure for figure in reference.documented()}
    for process in ("gateway", "cloud", "device"):
        for seen in reference.scraped(process, building.ready[process]["http"]):
            assert seen.name in known, f"{seen.name} of {process} is not on the page"
            page = known[seen.name]
            assert (seen.kind, seen.text) == (page.kind, page.text)
            assert process in page.processes


def test_the_page_of_metrics_is_in_its_form_and_invents_none(building: Building) -> None:
    figures = reference.documented()
    assert reference.metrics(figures) == (reference.FOLDER / "metrics.md").read_text("utf-8")
    shown = {
        seen.name
        for process in ("gateway", "cloud", "device")
        for seen in reference.scraped(process, building.ready[process]["http"])
    }
    spelled = names_in_the_code()
    invented = [one.name for one in figures if not spelled.fullmatch(one.name)]
    assert set(invented) <= shown
