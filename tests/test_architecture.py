"""The architecture, as a test: floors, cycles, seams, sizes, mirrors, names. Amend it by an ADR."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    {"wire"},
    {"broker", "certs", "policies", "views"},
    {"device", "gateway", "cloud"},
    {"lab"},
    {"cli"},
)
PACKAGES = sorted(set().union(*FLOORS))
SUBPACKAGES = {"device.drivers"}
MAY_IMPORT = {
    package: set().union(*FLOORS[:number])
    for number, floor in enumerate(FLOORS)
    for package in floor
}
# device, gateway and cloud meet on topics only; lab starts them as processes of their own.
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FORBIDDEN_WORDS = {"util", "utils", "common", "helpers", "manager", "misc", "base"}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    """`device.drivers.replay` for device/drivers/replay.py; a package has its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every first-party module that this file names, inside functions and under `if` too."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                known = whole.removeprefix("plantroom.") in NAMES
                found.add(whole if known else str(node.module))
    ours = {name.removeprefix("plantroom.") for name in found if name.startswith("plantroom.")}
    return frozenset(ours)


def home_of(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_imports_only_from_floors_below(path: Path) -> None:
    home = home_of(name_of(path))
    abroad = {name for name in imports_of(path) if home_of(name) != home}
    assert {name for name in abroad if home_of(name) not in MAY_IMPORT[home]} == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_imports_only_what_exists(path: Path) -> None:
    assert imports_of(path) <= NAMES


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_imports_are_absolute_and_under_plantroom(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            named = {str(node.module)}
        elif isinstance(node, ast.Import):
            named = {alias.name for alias in node.names}
        else:
            continue
        bare = {home_of(name) for name in named} & set(PACKAGES)
        assert not bare, f"line {node.lineno}: {bare} without plantroom. in front"


def test_modules_have_no_import_cycle() -> None:
    graph = {name_of(path): imports_of(path) - {name_of(path)} for path in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_catalogs_import_implementations_and_only_apps_import_catalogs() -> None:
    """What a catalog imports from its own package and nothing else there needs is a seam's."""
    for catalog in (name for name in NAMES if name.endswith(".catalog")):
        home = catalog.rpartition(".")[0]
        for path in MODULES:
            name = name_of(path)
            if catalog in imports_of(path):
                assert name.endswith(".app"), f"{name} imports {catalog}; only an app may"
        (source,) = (path for path in MODULES if name_of(path) == catalog)
        implementations = {name for name in imports_of(source) if is_implementation(name, home)}
        assert implementations, f"{catalog} lists no implementation"
        for path in MODULES:
            name = name_of(path)
            taken = imports_of(path) & implementations - {name}
            assert not taken or name == catalog, f"{name} imports {taken}; only {catalog} may"


def is_implementation(name: str, home: str) -> bool:
    """The interface's own file, its settings and values are shared; `Protocol`s live there."""
    (path,) = (path for path in MODULES if name_of(path) == name)
    defines_the_seam = any(
        isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
        for node in tree_of(path).body
    )
    shared = name.rpartition(".")[2] in {"settings", home.rpartition(".")[2]}
    return name.startswith(f"{home}.") and not defines_the_seam and not shared


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_module_is_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= FILE_LINES_MAX
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
            length = (node.end_lineno or first) - first + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_opens_with_what_it_is_for(path: Path) -> None:
    first = (ast.get_docstring(tree_of(path)) or "").partition("\n\n")[0]
    assert first.rstrip().endswith((".", "!", ":")), f"{first[:60]!r} is not a sentence"


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_module_is_finished(path: Path) -> None:
    marks = re.compile(r"\b(" + "TO" + "DO|FIX" + r"ME|X{3}|HA" + r"CK|ST" + r"UB)\b")
    assert not marks.search(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", [path for path in MODULES if not path.name.startswith("_")], ids=name_of
)
def test_module_has_a_test_file_of_its_own(path: Path) -> None:
    mirror = ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.name}"
    assert mirror.is_file(), f"{mirror.relative_to(ROOT)} is missing"
    names = [
        node.name
        for node in ast.walk(tree_of(mirror))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]
    machines = "TestCase" in mirror.read_text(encoding="utf-8")  # hypothesis state machines
    assert names or machines, f"{mirror.relative_to(ROOT)} tests nothing"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_named_for_what_it_does(path: Path) -> None:
    words = set(path.stem.split("_"))
    assert not words & FORBIDDEN_WORDS
    shadowed = path.stem in sys.stdlib_module_names and not path.stem.startswith("__")
    assert not shadowed or path.stem in ALLOWED_STDLIB_NAMES


# Absolute imports under `plantroom.` keep these apart from the standard library's.
ALLOWED_STDLIB_NAMES: set[str] = set()


def test_packages_in_pyproject_are_the_tree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tree = {name_of(path) for path in MODULES if path.name == "__init__.py"}
    assert tree == set(PACKAGES) | SUBPACKAGES
    assert set(project["tool"]["setuptools"]["packages"]) == {f"plantroom.{name}" for name in tree}
    folders = project["tool"]["setuptools"]["package-dir"]
    assert folders == {f"plantroom.{name}": name for name in PACKAGES}
    assert project["tool"]["mypy"]["packages"] == [f"plantroom.{name}" for name in PACKAGES]
    banned = project["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(banned) == set(PACKAGES)


def test_every_python_file_belongs_to_a_package() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    homes = {name.split("/")[0] for name in tracked}
    assert homes <= {*PACKAGES, "tests", "scripts"}
    folders = {str(Path(name).parent) for name in tracked if name.split("/")[0] in PACKAGES}
    assert {folder.replace("/", ".") for folder in folders} <= set(PACKAGES) | SUBPACKAGES


def test_what_ships_beside_code_is_named_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]
    shipped = {
        path.relative_to(ROOT)
        for package, globs in patterns.items()
        for pattern in globs
        for path in (ROOT / package.removeprefix("plantroom.").replace(".", "/")).glob(pattern)
    }
    tracked = subprocess.run(
        ["git", "ls-files", "--", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    beside = {Path(name) for name in tracked if not name.endswith(".py")}
    assert beside <= shipped


def test_links_for_type_checkers_are_the_packages() -> None:
    links = {path.name: path for path in (ROOT / ".types" / "plantroom").iterdir()}
    assert sorted(links) == PACKAGES
    for name, link in links.items():
        assert link.readlink() == Path("..", "..", name)


def test_only_the_root_of_the_tests_is_a_package() -> None:
    """So that `tests.fakes` is ours even where a distribution installs a package `tests`."""
    assert list((ROOT / "tests").rglob("__init__.py")) == [ROOT / "tests" / "__init__.py"]


# What an agent of 20 MB may load; paho-mqtt brings most of the standard library's part of it.
HEAVY = {"asyncio", "cryptography", "aiomqtt", "h11", "starlette", "uvicorn", "uvloop", "ssl"}
HEAVY |= {"logging", "email", "http", "urllib.request", "typing_extensions", "concurrent.futures"}


def loaded_by(*names: str) -> set[str]:
    code = "import sys; before = set(sys.modules); "
    code += "".join(f"import plantroom.{name}; " for name in names)
    code += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        *("wire.cbor", "wire.clock", "wire.errors", "wire.reading", "wire.senml", "wire.spiffe"),
        *sorted(name for name in NAMES if name.startswith("device.drivers")),
        *sorted(NAMES & {"device.sampler", "device.outbox", "device.mapping"}),
    ],
)
def test_what_a_small_agent_shares_loads_nothing_heavy(name: str) -> None:
    loaded = loaded_by(name)
    assert not loaded & HEAVY


def test_device_process_loads_no_asyncio_no_cryptography_no_other_process() -> None:
    loaded = loaded_by(*sorted(name for name in NAMES if name.startswith("device.app")))
    banned = {"asyncio", "cryptography", "aiomqtt", "starlette", "uvicorn", "regorus"}
    assert not loaded & banned
    homes = {name.split(".")[1] for name in loaded if name.startswith("plantroom.")}
    assert homes <= {"device", "wire", "certs", "policies"}


def test_certs_for_devices_load_no_cryptography() -> None:
    light = sorted(NAMES & {"certs", "certs.enrolled", "certs.csr"})
    assert "cryptography" not in loaded_by(*light)
