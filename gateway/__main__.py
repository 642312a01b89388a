"""`python -m plantroom.gateway CONFIG`: one gateway, until SIGTERM or SIGINT."""

import logging
import logging.handlers
import os
import sys
from functools import partial
from pathlib import Path

from plantroom.gateway import app, settings
from plantroom.gateway.settings import LogSection
from plantroom.wire import service
from plantroom.wire.errors import PlantroomError, UsageError

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main(arguments: list[str]) -> int:
    """Run, and return the exit code."""
    try:
        if len(arguments) != 1:
            raise UsageError(
                "one argument is wanted: the configuration file",
                remedy="python -m plantroom.gateway CONFIG; "
                "`plantroom config sample gateway` prints one",
            )
        loaded = settings.read(Path(arguments[0]), os.environ)
        _log_to(loaded.log)
        service.run(partial(app.main, loaded))
    except PlantroomError as error:
        return _say(error)
    except BaseExceptionGroup as group:
        only = _only_ours(group)
        if only is None:
            raise
        return _say(only)
    return 0


def _say(error: PlantroomError) -> int:
    print(f"plantroom: {error}", file=sys.stderr)  # noqa: T201 -- the one line for the operator
    return error.exit_code


def _only_ours(group: BaseExceptionGroup[BaseException]) -> PlantroomError | None:
    """Return the first error of a group that holds nothing but errors raised on purpose."""
    ours, others = group.split(PlantroomError)
    if ours is None or others is not None:
        return None
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, PlantroomError) else None


def _log_to(section: LogSection) -> None:
    handler: logging.Handler = logging.StreamHandler()
    if section.target == "syslog":
        handler = logging.handlers.SysLogHandler("/dev/log")
    logging.basicConfig(level=section.level, format=_FORMAT, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
