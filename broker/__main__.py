"""`python -m plantroom.broker CONFIG`: one broker on its own."""

import logging
import os
import sys
from functools import partial
from pathlib import Path

from plantroom.broker.app import Policy, main
from plantroom.broker.pem import Check
from plantroom.broker.settings import BrokerSettings
from plantroom.wire.errors import PlantroomError
from plantroom.wire.service import run
from plantroom.wire.settings import load

_USAGE = "plantroom: one configuration file is wanted: python -m plantroom.broker CONFIG"


def start(arguments: list[str], policy: Policy | None = None, check: Check | None = None) -> int:
    """Run until stopped, with this policy where one is configured; return the exit code.

    `check` looks at each client's certificate, beside what the broker itself looks at.
    """
    if len(arguments) != 1:
        sys.stderr.write(_USAGE + "\n")
        return 2
    try:
        settings = load(BrokerSettings, Path(arguments[0]), os.environ)
        logging.basicConfig(
            level=settings.listen.log_level,
            stream=sys.stderr,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        run(partial(main, settings, policy, check))
    except PlantroomError as error:
        sys.stderr.write(f"plantroom: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
