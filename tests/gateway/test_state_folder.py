from pathlib import Path

import pytest

from plantroom.gateway.state_folder import Reserve, StateFolder
from plantroom.wire.errors import ConfigError, StorageError


def test_two_gateways_cannot_have_one_folder(tmp_path: Path) -> None:
    with (
        StateFolder(tmp_path).held(),
        pytest.raises(ConfigError, match="another gateway"),
        StateFolder(tmp_path).held(),
    ):
        pass
    with StateFolder(tmp_path).held():
        pass


def test_the_reserve_is_real_bytes_given_up_once_and_made_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 20)
    assert not reserve.make(free=(2 << 20) - 1)
    assert reserve.make(free=2 << 20)
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1 << 20
    assert reserve.make(free=0)  # it is there
    assert reserve.give_up()
    assert not reserve.give_up()
    assert not reserve.is_there
    assert not reserve.make(free=0)


def test_no_reserve_is_wanted_where_its_size_is_zero(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 0)
    assert reserve.make(free=0)
    assert not (tmp_path / "reserve").exists()


def test_a_folder_that_is_gone_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the state folder is gone"):
        StateFolder(tmp_path / "gone").disk_free()
