"""`python -m plantroom.device CONFIG`: one sensor agent."""

import os
import sys
from pathlib import Path

from plantroom.device import app, settings
from plantroom.wire.errors import PlantroomError


def run(arguments: list[str]) -> int:
    """Run the agent; return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("plantroom: usage: python -m plantroom.device CONFIG.toml\n")
        return 2
    try:
        app.main(settings.read(Path(arguments[0]), os.environ))
    except PlantroomError as error:
        sys.stderr.write(f"plantroom: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
