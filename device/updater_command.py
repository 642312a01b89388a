"""An installer that is another program: RAUC, SWUpdate or a script of one's own.

That program owns slots and boot loader; the record here knows what is on trial and what has failed.
`{image}` in a command stands for the verified file. The answer of `running` has to be the image's
SHA-256 or its version.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plantroom.device import updater_record
from plantroom.device.updater_install import Booted
from plantroom.device.updater_record import Image, Record
from plantroom.device.updater_storage import Storage
from plantroom.wire.errors import StorageError

ANSWER_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Command lines; an empty one is not run."""

    install: str
    good: str = ""
    bad: str = ""
    running: str = ""
    timeout_s: float = 600.0


class CommandInstaller:
    """Hands verified files to a program; `path` says where a file of the storage lies."""

    def __init__(  # noqa: PLR0913 -- like the slots', by keyword
        self,
        storage: Storage,
        commands: Commands,
        *,
        version: str,
        sequence: int,
        boots: int,
        path: Callable[[str], Path],
    ) -> None:
        self._storage = storage
        self._commands = commands
        self._boots = boots
        self._path = path
        self.record = updater_record.load(
            storage, version=version, sequence=sequence, where=str(path(""))
        )

    def boot(self) -> Booted:
        """Ask what runs: the boot loader may have gone back by itself."""
        record, image = updater_record.booted(self.record)
        self._keep(record)
        trial = self.record.trial
        if trial is None:
            return Booted(image=image, on_trial=False)
        answer = self._run(self._commands.running) if self._commands.running else trial.version
        if answer in {trial.digest.hex(), trial.version}:
            return Booted(image=trial, on_trial=True)
        self._keep(
            updater_record.failed(self.record, f"the boot loader runs {answer or 'another'}")
        )
        return Booted(image=self.record.active, on_trial=False)

    def install(self, image: Image, file: str) -> None:
        """Have it installed, then tried."""
        self._storage.sync(file)
        self._run(self._commands.install, file)
        self._keep(updater_record.tried(self.record, image, self._boots))
        self._storage.remove(file)

    def prove(self) -> None:
        """Tell the boot loader, then the record: a cut in between is told again."""
        self._run(self._commands.good)
        self._keep(updater_record.proven(self.record))

    def give_up(self, text: str, *, for_good: bool) -> None:
        """End the trial."""
        self._run(self._commands.bad)
        self._keep(updater_record.failed(self.record, text, for_good=for_good))

    def condemn(self, release: bytes) -> None:
        """Never take this release."""
        self._keep(updater_record.condemned(self.record, release))

    def _run(self, line: str, file: str = "") -> str:
        """Run a command line without a shell, and return what it says.

        Raises:
            StorageError: when it cannot be started, fails, or takes too long.
        """
        import subprocess  # noqa: PLC0415 -- only where images are installed by a program

        words = [word.replace("{image}", str(self._path(file))) for word in shlex.split(line)]
        if not words:
            return ""
        try:
            done = subprocess.run(  # noqa: S603 -- the operator's own command, no shell
                words,
                capture_output=True,
                text=True,
                timeout=self._commands.timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StorageError(f"installer does not run: {error}", where=words[0]) from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-ANSWER_CHARACTERS_MAX:]
            raise StorageError(f"installer ends with {done.returncode}: {said}", where=words[0])
        return done.stdout.strip()[:ANSWER_CHARACTERS_MAX]

    def _keep(self, record: Record) -> None:
        if record != self.record:
            updater_record.keep(self._storage, record)
            self.record = record
