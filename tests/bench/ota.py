"""Firmware updates: what one costs a device, a building and its WAN.

    python -m tests.bench.ota [--quick] [--json] [--plot FILE] [--folder DIR]

Exit code 1 when a figure misses its target.
"""

import sys
from collections.abc import Iterator

from tests.bench.kit import command
from tests.bench.kit.command import Given
from tests.bench.kit.figures import Figure
from tests.bench.updates import broadcast, device


def _measured(given: Given) -> Iterator[Figure]:
    given.say(device.machine())
    for part in (device.measured, broadcast.measured):
        yield from part(given.folder, quick=given.quick, say=given.say)


def main() -> int:
    """Measure, print, and say whether every target is met."""
    return command.run(__doc__, "firmware updates", _measured)


if __name__ == "__main__":
    sys.exit(main())
