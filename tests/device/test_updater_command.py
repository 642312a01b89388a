import sys
from pathlib import Path

import pytest

from plantroom.device.updater_command import CommandInstaller, Commands
from plantroom.device.updater_record import Image
from plantroom.wire.errors import StorageError
from tests.fakes.ota_device import SimStorage

IMAGE = Image(slot="a", sequence=2, version="2.0", release=b"r" * 32, digest=b"d" * 32)


def say(text: str, code: int = 0) -> str:
    return f'{sys.executable} -c "print({text!r}); raise SystemExit({code})"'


def installer(storage: SimStorage, commands: Commands) -> CommandInstaller:
    return CommandInstaller(
        storage, commands, version="1.0", sequence=1, boots=2, path=lambda name: Path("/fw") / name
    )


def installed(commands: Commands) -> CommandInstaller:
    storage = SimStorage()
    storage.write("part", 0, b"image")
    installer(storage, commands).install(IMAGE, "part")
    return installer(storage, commands)


def test_a_command_that_fails_installs_nothing() -> None:
    storage = SimStorage()
    storage.write("part", 0, b"image")
    made = installer(storage, Commands(install=say("signature is wrong", 9)))
    with pytest.raises(StorageError, match="9: signature is wrong"):
        made.install(IMAGE, "part")
    assert made.record.trial is None
    assert storage.read("part", 0, 9) == b"image"


def test_a_command_that_is_not_there_or_hangs_is_named() -> None:
    for commands in (
        Commands(install="/no/such/program {image}"),
        Commands(install=f'{sys.executable} -c "import time; time.sleep(60)"', timeout_s=0.2),
    ):
        storage = SimStorage()
        storage.write("part", 0, b"image")
        with pytest.raises(StorageError, match="does not run"):
            installer(storage, commands).install(IMAGE, "part")


@pytest.mark.parametrize(("answer", "on_trial"), [("2.0", True), ("64" * 32, True), ("1.0", False)])
def test_the_boot_loader_may_have_gone_back_by_itself(answer: str, on_trial: bool) -> None:  # noqa: FBT001
    made = installed(Commands(install="true", running=say(answer)))
    assert made.boot().on_trial is on_trial
    assert (made.record.trial is None) is not on_trial


def test_the_boot_loader_is_told_before_the_record() -> None:
    made = installed(Commands(install="true", good=say("not now", 1), bad=say("no", 1)))
    assert made.boot().on_trial
    with pytest.raises(StorageError):
        made.prove()
    with pytest.raises(StorageError):
        made.give_up("", for_good=False)
    assert made.record.trial is not None
