"""Whether a new image is well: what it says itself, asked in a process of its own.

An image that is a Python application in a zip file (PEP 441) is started with `--self-test` and has
to end with 0. Any other image has no voice: that its bytes are the signed ones was checked before.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path


class SelfTest:
    """One run, without waiting for it; `verdict` is None until there is one."""

    def __init__(self, image: Path) -> None:
        self.verdict: bool | None = None
        self.text = ""
        self._process: int | None = None
        if not _is_application(image):
            self.verdict = True
            return
        try:
            self._process = _start(image)
        except OSError as error:
            self.verdict, self.text = False, f"cannot be started: {error.strerror}"

    def poll(self) -> bool | None:
        """Look whether it has ended."""
        if self._process is not None:
            process, status = os.waitpid(self._process, os.WNOHANG)
            if process:
                self._process = None
                code = os.waitstatus_to_exitcode(status)
                self.verdict, self.text = code == 0, f"exit code {code}"
        return self.verdict

    def stop(self) -> None:
        """End it; idempotent."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _is_application(image: Path) -> bool:
    import zipfile  # noqa: PLC0415 -- needed on trial boots alone; the device stays small

    try:
        with zipfile.ZipFile(image) as archive:
            return "__main__.py" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def _start(image: Path) -> int:
    silence = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    command = [sys.executable, "-I", str(image), "--self-test"]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=[silence, *quiet])
