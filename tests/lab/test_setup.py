import stat
from pathlib import Path

from plantroom.lab import setup
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from tests.lab.conftest import DEVICES


def contents(folder: Path) -> dict[str, bytes]:
    names = ("*.toml", "*.pem", "*.key", "authority.json")
    return {str(path): path.read_bytes() for name in names for path in folder.rglob(name)}


def test_a_second_set_up_changes_nothing(set_up: Layout) -> None:
    before = contents(set_up.state)
    assert setup.prepare(set_up, Flags(devices=2), DEVICES) == {one.name for one in DEVICES}
    assert contents(set_up.state) == before


def test_no_private_key_can_be_read_by_others(set_up: Layout) -> None:
    keys = [*set_up.state.rglob("*.key"), *set_up.state.rglob("key.pem")]
    assert len(keys) == 4  # two roots, operator, inspector
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
