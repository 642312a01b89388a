"""`python -m plantroom.cloud CONFIG`: the cloud."""

import logging
import logging.handlers
import os
import sys
from functools import partial
from pathlib import Path

from plantroom.cloud import app, settings
from plantroom.cloud.settings import LogSection
from plantroom.wire import service
from plantroom.wire.errors import PlantroomError

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main(arguments: list[str]) -> int:
    """Run until stopped; return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("plantroom: usage: python -m plantroom.cloud CONFIG.toml\n")
        return 2
    try:
        given = settings.read(Path(arguments[0]), os.environ)
        _log_to(given.log)
        service.run(partial(app.main, given))
    except PlantroomError as error:
        sys.stderr.write(f"plantroom: {error}\n")
        return error.exit_code
    return 0


def _log_to(log: LogSection) -> None:
    handler: logging.Handler
    if log.target == "syslog":
        handler = logging.handlers.SysLogHandler("/dev/log")
        handler.setFormatter(logging.Formatter("plantroom-cloud: %(name)s: %(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=log.level, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
