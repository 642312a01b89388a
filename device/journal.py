"""The agent's log: lines to syslog or stderr, without the logging module."""

import sys
import time

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_SYSLOG = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}


class Journal:
    """Writes what is at least as grave as `level`; safe to call from any thread."""

    def __init__(self, *, level: str, target: str, name: str) -> None:
        self._from = LEVELS.index(level)
        self._name = name
        self._syslog = target == "syslog"
        if self._syslog:
            import syslog  # noqa: PLC0415 -- not there on every platform

            syslog.openlog(f"plantroom-device[{name}]", 0, syslog.LOG_DAEMON)

    def debug(self, text: str) -> None:
        """Say what only a developer wants to know."""
        self._write("DEBUG", text)

    def info(self, text: str) -> None:
        """Say what happens in normal service."""
        self._write("INFO", text)

    def warning(self, text: str) -> None:
        """Say what an operator should know."""
        self._write("WARNING", text)

    def error(self, text: str) -> None:
        """Say what an operator has to mend."""
        self._write("ERROR", text)

    def _write(self, level: str, text: str) -> None:
        if LEVELS.index(level) < self._from:
            return
        line = " ".join(text.split("\n"))
        if self._syslog:
            import syslog  # noqa: PLC0415 -- see above

            syslog.syslog(_SYSLOG[level], line)
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        sys.stderr.write(f"{now} {level} {self._name}: {line}\n")
        sys.stderr.flush()
