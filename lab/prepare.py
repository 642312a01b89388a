"""`python -m plantroom.lab.prepare`: set a state folder up and start nothing.

For those whose processes are started by something else, containers for instance: identities, join
tokens and configurations are made or renewed exactly as `plantroom up` makes them.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from plantroom.lab import flags, setup
from plantroom.lab.flags import Given
from plantroom.lab.layout import Layout
from plantroom.lab.plan import devices_of
from plantroom.wire.errors import PlantroomError


def main(words: Sequence[str] | None = None) -> int:
    """Prepare the folder and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m plantroom.lab.prepare", description=__doc__)
    parser.add_argument("--state", help="state folder (PLANTROOM_STATE, else .plantroom)")
    parser.add_argument("--devices", type=int, metavar="N", help="simulated sensors (3)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the first one (1)")
    options = parser.parse_args(words)
    layout = Layout.find(options.state, os.environ)
    given = Given(devices=options.devices, seed=options.seed)
    try:
        wanted = given.over(flags.load(layout.building))
        admitted = setup.prepare(layout, wanted, devices_of(wanted))
    except PlantroomError as error:
        sys.stderr.write(f"plantroom: {error}\n")
        return error.exit_code
    sys.stderr.write(f"prepared {layout.state} for {', '.join(sorted(admitted))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
