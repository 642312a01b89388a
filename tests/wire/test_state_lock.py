from pathlib import Path

import pytest

from plantroom.wire.errors import ConfigError, StorageError
from plantroom.wire.state_lock import held


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "gateway.lock"
    with (
        held(lock, "gateway"),
        pytest.raises(ConfigError, match="another gateway runs") as told,
        held(lock, "gateway"),
    ):
        pass
    assert str(lock.parent) in str(told.value)


def test_the_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / "gateway.lock"
    with held(lock, "gateway"):
        pass
    with held(lock, "gateway"):
        assert lock.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with (
        pytest.raises(StorageError, match="cannot be written"),
        held(tmp_path / "state" / "cloud.lock", "cloud"),
    ):
        pass
