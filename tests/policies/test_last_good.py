from pathlib import Path

import pytest

from plantroom.policies import last_good
from plantroom.policies.last_good import LastGood
from plantroom.wire.errors import StorageError

KEPT = LastGood(files={".manifest": "{}", "a/ä.rego": "package a\n"}, at_us=7)


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "policy" / "kept.json"
    last_good.save(path, KEPT)
    assert last_good.load(path) == KEPT
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["kept.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"at_us": "x", "files": {}}', '{"at_us": 1, "files": {"a": 1}}']
)
def test_what_cannot_be_read_is_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kept.json"
    assert last_good.load(path) is None
    path.write_text(text)
    assert last_good.load(path) is None


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be kept"):
        last_good.save(tmp_path / "file" / "kept.json", KEPT)
