"""A new image on trial: it has to be well, and to reach the gateway, within its time.

What does not prove itself is restarted; the record counts these boots and goes back behind the
last of them. A failed self-test need not be repeated.
"""

from collections.abc import Callable
from typing import Protocol

from plantroom.device.updater_install import Installer


class Test(Protocol):
    """A self-test that runs on its own: `SelfTest` is one."""

    text: str

    def poll(self) -> bool | None:
        """Return its verdict, None as long as there is none."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Trial:
    """One boot of an image on trial."""

    def __init__(
        self, installer: Installer, test: Test, *, deadline_s: float, restart: Callable[[str], None]
    ) -> None:
        self._installer = installer
        self._test = test
        self._deadline_s = deadline_s
        self._restart = restart
        self.contact = False
        self.ended = False
        self.leaving = False

    def work(self, now_s: float) -> bool:
        """Look how it goes; True once, when the image has proved itself."""
        if self.ended:
            return False
        verdict = self._test.poll()
        if verdict is False:
            self._end()
            self._installer.give_up(f"self-test failed: {self._test.text}", for_good=True)
            self._leave("failed its self-test")
        elif verdict and self.contact:
            self._end()
            self._installer.prove()
            return True
        elif now_s >= self._deadline_s:
            self._end()
            what = "reached no gateway" if verdict else "did not end its self-test"
            self._leave(f"{what} in time")
        return False

    def stop(self) -> None:
        """End the self-test with the process; the trial itself goes on at the next boot."""
        self._test.stop()

    def _leave(self, why: str) -> None:
        self.leaving = True
        self._restart(f"the new firmware {why}")

    def _end(self) -> None:
        self.ended = True
        self._test.stop()
