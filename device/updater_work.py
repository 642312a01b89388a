"""One release on its way into a slot: downloaded, read back, installed.

Modes, each a method that is called until it sets the next: downloading, verifying, installing.
What happens is told as (state, code, text), in order.
"""

from collections.abc import Callable, Iterator

from plantroom.device import updater_record
from plantroom.device.updater_background import Background
from plantroom.device.updater_download import Download, Patience
from plantroom.device.updater_install import Installer
from plantroom.device.updater_part import PART_FILE, Part
from plantroom.device.updater_storage import Storage, digest_steps
from plantroom.wire import ota_messages
from plantroom.wire.errors import StorageFullError
from plantroom.wire.firmware import Release
from plantroom.wire.ota_messages import ChunkStatus, Get
from plantroom.wire.ota_states import State

Start = Callable[[Callable[[], None]], Background]
Tell = Callable[[State, str, str], None]  # state, code, text
Mode = Callable[[float], None]


class Work:
    """Brings one release in; `ended` once it is installed, or has failed.

    Raises:
        StorageFullError: when there is no room for it.
    """

    def __init__(  # noqa: PLR0913 -- the parts that it joins, by keyword
        self,
        release: Release,
        *,
        storage: Storage,
        installer: Installer,
        patience: Patience,
        campaign: str,
        tell: Tell,
        start: Start,
        now_s: float,
    ) -> None:
        self.release = release
        self.part = Part(storage, release)
        self._storage = storage
        self._installer = installer
        self._campaign = campaign
        self._tell = tell
        self._start = start
        self._download = Download(self.part, patience, now_s)
        self._steps: Iterator[bytes | None] = iter(())
        self._install: Background | None = None
        self._mode: Mode = self._downloading
        self.ended = False
        self.installed = False

    @property
    def may_be_stopped(self) -> bool:
        """Whether a cancel still counts: what is past VERIFIED finishes."""
        return self._mode == self._downloading

    @property
    def busy(self) -> bool:
        """Whether there is more to do at once."""
        return self._mode == self._verifying

    def step(self, now_s: float) -> None:
        """Do the next bit."""
        if self.ended:
            return
        try:
            self._mode(now_s)
        except StorageFullError as error:
            self._fail("disk-full", str(error))

    def receive(self, number: str, data: bytes, now_s: float, *, broadcast: bool) -> None:
        """Take what came on a chunk topic under this number, or the word `status`.

        Raises:
            EnvelopeError: when it is neither.
        """
        if not self.may_be_stopped or self.ended:
            return
        try:
            if number == ota_messages.STATUS:
                self._download.told(ota_messages.decode(data, ChunkStatus), now_s)
            elif number.isdecimal():
                self._download.receive(int(number), data, now_s, broadcast=broadcast)
        except StorageFullError as error:
            self._fail("disk-full", str(error))

    def request(self, now_s: float) -> Get | None:
        """Return what to ask for now."""
        return self._download.next(now_s) if self.may_be_stopped and not self.ended else None

    def lost(self) -> None:
        """Forget what was asked for on a connection that has gone."""
        self._download.lost()

    def _downloading(self, _now_s: float) -> None:
        download = self._download
        if self.part.complete:
            self._tell("DOWNLOADED", "", "")
            image_bytes = self.release.chunks.image_bytes
            self._steps = digest_steps(self._storage, PART_FILE, image_bytes)
            self._mode = self._verifying
        elif download.failure:
            self._fail(download.failure, f"{download.failures} failures")
        elif download.waits_for_server:
            self._tell("WAITING", "server", "")
        else:
            self._tell("DOWNLOADING", "", "")

    def _verifying(self, _now_s: float) -> None:
        """Read the whole image back, a piece at a time, so that readings go on."""
        digest = next(self._steps)
        if digest is None:
            return
        if digest == self.release.image_digest:
            self._tell("VERIFIED", "", "")
            slot = self._installer.record.spare_slot
            image = updater_record.image_of(self.release, slot, self._campaign)
            self._install = self._start(lambda: self._installer.install(image, PART_FILE))
            self._mode = self._installing
            return
        self._mode = self._downloading
        bad = self.part.recheck()
        if bad:
            self._download.damaged(bad)
        else:
            self._installer.condemn(self.release.digest)
            self._fail("image-digest", "every chunk is right and the whole is not what was signed")

    def _installing(self, _now_s: float) -> None:
        install = self._install
        if install is None or not install.ended:
            return
        if install.succeeded:
            self._tell("UPDATING", "", "restarting")
            self.ended = self.installed = True
        else:
            full = isinstance(install.error, StorageFullError)
            self._fail("disk-full" if full else "install", str(install.error))

    def _fail(self, code: str, text: str) -> None:
        self.ended = True
        self._tell("FAILED", code, text)
