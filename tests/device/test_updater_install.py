"""The installer seam's contract: slots in a folder, and another program behind command lines."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plantroom.device.updater_command import CommandInstaller, Commands
from plantroom.device.updater_install import Installer
from plantroom.device.updater_record import Image
from plantroom.device.updater_slots import Slots
from plantroom.device.updater_storage import FolderStorage
from tests.fakes import ota_author

DATA = b"an image"
Make = Callable[[], Installer]


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "firmware")


@pytest.fixture(params=["slots", "command"])
def make(request: pytest.FixtureRequest, tmp_path: Path, storage: FolderStorage) -> Make:
    """Open the installer as each boot does."""
    code = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
    commands = Commands(install=f"{sys.executable} -c '{code}' {{image}} {tmp_path / 'taken'}")

    def opened() -> Installer:
        if request.param == "slots":
            return Slots(storage, version="1.0", sequence=1, boots=2, where="x")
        return CommandInstaller(
            storage, commands, version="1.0", sequence=1, boots=2, path=storage.path
        )

    return opened


@pytest.fixture(autouse=True)
def closed(storage: FolderStorage) -> object:
    yield
    storage.close()


def install(installer: Installer, storage: FolderStorage) -> Image:
    storage.write("part", 0, DATA)
    image = Image(
        slot=installer.record.spare_slot,
        sequence=2,
        version="2.0",
        release=b"r" * 32,
        digest=ota_author.digest(DATA),
        image_bytes=len(DATA),
    )
    installer.install(image, "part")
    assert storage.read("part", 0, 1) == b""
    return image


def test_the_next_boot_tries_it_and_proof_makes_it_stay(make: Make, storage: FolderStorage) -> None:
    image = install(make(), storage)
    installer = make()
    booted = installer.boot()
    assert (booted.image, booted.on_trial) == (image, True)
    installer.prove()
    booted = make().boot()
    assert (booted.image, booted.on_trial) == (image, False)
    assert make().record.last is not None


def test_without_proof_it_goes_back_behind_the_last_boot(
    make: Make, storage: FolderStorage
) -> None:
    install(make(), storage)
    assert [make().boot().on_trial for _ in range(3)] == [True, True, False]
    assert make().record.active.version == "1.0"


def test_giving_up_goes_back_at_once(make: Make, storage: FolderStorage) -> None:
    image = install(make(), storage)
    installer = make()
    installer.boot()
    installer.give_up("it is not well", for_good=True)
    assert not make().boot().on_trial
    assert make().record.known_bad == {image.release}


def test_what_is_condemned_is_known(make: Make) -> None:
    make().condemn(b"x" * 32)
    assert make().record.known_bad == {b"x" * 32}
