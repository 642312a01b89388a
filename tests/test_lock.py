"""The locks: what pyproject.toml asks for, whole, hashed, and from no particular index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {"requirements.lock": ["fast"], "requirements-test.lock": ["fast", "test"]}
LOCKS = sorted(EXTRAS)


def entries(lock: str) -> dict[str, str]:
    """Each locked distribution with its lines: pin, marker, hashes, who wants it."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9][\w.-]*==.*(?:\n[ ]+.*)*)", text, re.MULTILINE)
    return {canonicalize_name(entry.partition("==")[0]): entry for entry in found}


def pin(entry: str) -> str:
    return re.split(r"[ ;\\]", entry.partition("==")[2])[0]


def wanted(lock: str) -> dict[str, Requirement]:
    texts = list(PROJECT["project"]["dependencies"])
    for extra in EXTRAS[lock]:
        texts += PROJECT["project"]["optional-dependencies"][extra]
    made = [Requirement(text) for text in texts]
    return {canonicalize_name(requirement.name): requirement for requirement in made}


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_every_requirement_and_holds_no_former_one(lock: str) -> None:
    locked = entries(lock)
    for name, requirement in wanted(lock).items():
        assert name in locked, f"{name} is not in {lock}: make lock"
        assert requirement.specifier.contains(pin(locked[name]), prereleases=True)
    direct = {name for name, entry in locked.items() if "plantroom (pyproject.toml" in entry}
    build = {canonicalize_name(Requirement(r).name) for r in PROJECT["build-system"]["requires"]}
    assert direct - build == set(wanted(lock))
    assert build <= set(locked)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    for name, entry in entries(lock).items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{name} has no hash"
    assert "://" not in text
    assert not re.search(r"^\s*--?(index|extra|find|trusted|i )", text, re.MULTILINE)


def test_test_lock_contains_the_product_as_it_is_run() -> None:
    product, tests = entries("requirements.lock"), entries("requirements-test.lock")
    differing = {name for name in product if pin(tests.get(name, "==")) != pin(product[name])}
    assert differing == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_was_made_with_the_oldest_python(lock: str) -> None:
    first = (ROOT / lock).read_text(encoding="utf-8").splitlines()[1]
    assert first.endswith("Python 3.11")
