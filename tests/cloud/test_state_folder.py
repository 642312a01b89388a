from pathlib import Path

import pytest

from plantroom.cloud.state_folder import StateFolder
from plantroom.wire.errors import ConfigError, StorageError


def test_folder_is_had_by_one_and_free_again_afterwards(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "new" / "state")
    with folder.held(), pytest.raises(ConfigError, match="another cloud"), folder.held():
        pass
    with folder.held():
        assert folder.lock.exists()
    assert folder.root.stat().st_mode & 0o077 == 0


def test_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    folder = StateFolder(tmp_path / "file" / "state")
    with pytest.raises(StorageError, match="cannot be written"), folder.held():
        pass


def test_everything_lies_below_the_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    paths = [folder.front, folder.store, folder.authority, folder.registry, folder.bundles]
    assert len({*paths, folder.lock}) == 6
    assert {path.parent for path in paths} == {tmp_path}
