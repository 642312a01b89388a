"""Two slots in a folder: write, sync, read back, rename one record, count boots, go back.

The device's own restart is the boot. Every change of state is one rename of one record, so a power
cut leaves the old state or the new one; `tests/device/test_updater_power.py` cuts at every step.
"""

from plantroom.device import updater_record
from plantroom.device.updater_install import Booted
from plantroom.device.updater_record import FACTORY, Image, Record, slot_file
from plantroom.device.updater_storage import Storage, digest_of
from plantroom.wire.errors import StorageError


class Slots:
    """Directory slots; `boots` is how often an image may start before it has proved itself.

    `version` and `sequence` are those of what the device was made with.

    Raises:
        StorageError: when the record is damaged or cannot be read.
    """

    def __init__(
        self, storage: Storage, *, version: str, sequence: int, boots: int, where: str
    ) -> None:
        self._storage = storage
        self._boots = boots
        self.record = updater_record.load(storage, version=version, sequence=sequence, where=where)

    def boot(self) -> Booted:
        """Count this boot before anything of the image runs, and check what is to run."""
        record, image = updater_record.booted(self.record)
        self._keep(record)  # before the image is looked at: what it does to us counts as a boot
        if self._is_whole(image):
            return Booted(image=image, on_trial=self.record.trial is not None)
        if self.record.trial is not None:
            self._keep(updater_record.failed(self.record, "its bytes are damaged"))
        else:
            self._keep(updater_record.fallen_back(self.record))
        if not self._is_whole(self.record.active):  # both: what the device was made with is left
            self._keep(updater_record.fallen_back(self.record))
        return Booted(image=self.record.active, on_trial=False)

    def _is_whole(self, image: Image) -> bool:
        if image.slot == FACTORY:
            return True
        name = slot_file(image.slot)
        return digest_of(self._storage, name, image.image_bytes) == image.digest

    def install(self, image: Image, file: str) -> None:
        """Move the file into the spare slot, then have it tried: in this order."""
        if self.record.trial is not None or image.slot != self.record.spare_slot:
            raise StorageError("a trial is under way", where=slot_file(image.slot))
        self._storage.sync(file)
        self._storage.rename(file, slot_file(image.slot))
        self._keep(updater_record.tried(self.record, image, self._boots))

    def prove(self) -> None:
        """Make what is on trial the active image."""
        self._keep(updater_record.proven(self.record))

    def give_up(self, text: str, *, for_good: bool) -> None:
        """End the trial."""
        self._keep(updater_record.failed(self.record, text, for_good=for_good))

    def condemn(self, release: bytes) -> None:
        """Never take this release."""
        self._keep(updater_record.condemned(self.record, release))

    def _keep(self, record: Record) -> None:
        if record != self.record:
            updater_record.keep(self._storage, record)
            self.record = record
