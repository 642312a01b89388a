import pytest

from plantroom.device.updater_install import Booted, Installer
from plantroom.device.updater_record import Image
from plantroom.device.updater_slots import Slots
from plantroom.wire.errors import StorageCorruptError, StorageError
from tests.fakes import ota_author
from tests.fakes.ota_device import SimStorage

DATA = b"an image"


def slots_of(storage: SimStorage, boots: int = 2) -> Slots:
    return Slots(storage, version="1.0.0", sequence=3, boots=boots, where="record")


def image_in(slot: str, sequence: int = 4) -> Image:
    return Image(
        slot=slot,
        sequence=sequence,
        version=f"1.{sequence}",
        release=bytes([sequence]) * 32,
        digest=ota_author.digest(DATA),
        image_bytes=len(DATA),
    )


def install(installer: Installer, storage: SimStorage, sequence: int = 4) -> Image:
    storage.write("part", 0, DATA)
    image = image_in(installer.record.spare_slot, sequence)
    installer.install(image, "part")
    return image


def test_before_any_update_it_runs_what_it_was_made_with() -> None:
    booted = slots_of(SimStorage()).boot()
    assert booted == Booted(image=Image(version="1.0.0", sequence=3), on_trial=False)


def test_a_trial_is_booted_and_stays_once_it_is_proven() -> None:
    storage = SimStorage()
    image = install(slots_of(storage), storage)
    slots = slots_of(storage)
    assert slots.boot() == Booted(image=image, on_trial=True)
    slots.prove()
    assert slots_of(storage).boot() == Booted(image=image, on_trial=False)


def test_slots_take_turns() -> None:
    storage = SimStorage()
    used = []
    for sequence in (4, 5, 6):
        used.append(install(slots_of(storage), storage, sequence).slot)
        slots = slots_of(storage)
        slots.boot()
        slots.prove()
    assert used == ["a", "b", "a"]


def test_boots_are_counted_before_anything_runs() -> None:
    storage = SimStorage()
    image = install(slots_of(storage, boots=2), storage)
    for _ in range(2):
        assert slots_of(storage).boot().on_trial
    slots = slots_of(storage)
    assert slots.boot() == Booted(image=Image(version="1.0.0", sequence=3), on_trial=False)
    assert slots.record.last is not None
    assert slots.record.last.state == "ROLLED_BACK"
    assert slots.record.bad == {image.release.hex(): 1}


def test_a_damaged_trial_is_never_run() -> None:
    storage = SimStorage()
    install(slots_of(storage), storage)
    storage.durable["slot-a"] = b"an imagE"
    booted = slots_of(storage).boot()
    assert booted == Booted(image=Image(version="1.0.0", sequence=3), on_trial=False)


@pytest.mark.parametrize("damage", [b"", b"an imagE", DATA + b"x"])
def test_a_damaged_active_image_gives_way_to_the_one_before_and_the_floor_stays(
    damage: bytes,
) -> None:
    storage = SimStorage()
    for sequence in (4, 5):
        install(slots_of(storage), storage, sequence)
        slots = slots_of(storage)
        slots.boot()
        slots.prove()
    storage.durable["slot-b"] = damage
    slots = slots_of(storage)
    booted = slots.boot()
    assert booted.image.slot == "a"
    assert slots.record.active.sequence == 5
    storage.durable["slot-a"] = damage
    assert slots_of(storage).boot().image.slot == ""


def test_two_trials_at_a_time_are_refused() -> None:
    storage = SimStorage()
    slots = slots_of(storage)
    image = install(slots, storage)
    with pytest.raises(StorageError, match="trial"):
        slots.install(image, "part")


def test_a_damaged_record_is_an_error_and_not_a_beginning() -> None:
    storage = SimStorage()
    install(slots_of(storage), storage)
    storage.durable["record"] = storage.durable["record"][:-3]
    with pytest.raises(StorageCorruptError, match="record"):
        slots_of(storage)


def test_what_is_condemned_stays_so() -> None:
    storage = SimStorage()
    slots_of(storage).condemn(bytes(32))
    assert slots_of(storage).record.known_bad == {bytes(32)}
