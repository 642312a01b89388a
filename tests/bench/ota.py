"""Firmware updates: what one costs a device, a building and its WAN.

    python -m tests.bench.ota [--quick] [--json] [--plot FILE] [--folder DIR]

Exit code 1 when a figure misses its target.
"""

import argparse
import sys
import time
from pathlib import Path

from plantroom.wire.errors import PlantroomError
from tests.bench.kit import figures, plot
from tests.bench.updates import broadcast, device

_DISK = Path("/var/tmp")  # noqa: S108 -- memory may be mounted on /tmp, and syncs at once


def main() -> int:
    """Measure, print, and say whether every target is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the most telling figures, 50 s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the figures as SVG")
    parser.add_argument("--folder", type=Path, default=_DISK, help="on the disk to be measured")
    given = parser.parse_args()
    begin = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begin:6.1f} s  {text}\n")

    say(device.machine())
    try:
        parts = (device.measured, broadcast.measured)
        found = [
            figure for part in parts for figure in part(given.folder, quick=given.quick, say=say)
        ]
    except PlantroomError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    if given.plot:
        plot.write(given.plot, found, "firmware updates")
    text = figures.as_json(found) if given.json else figures.table(found)
    sys.stdout.write(f"{text}\n")
    return figures.exit_code(found)


if __name__ == "__main__":
    sys.exit(main())
