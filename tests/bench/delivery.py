"""The delivery, from sensors' publishes to stored rows: rates, a drain, bytes, peers under faults.

    python -m tests.bench.delivery [--quick] [--json] [--plot FILE] [--folder DIR]

Gateway and cloud are the product's own processes with everything on: mutual TLS, policy, books.
Exit code 1 when a figure misses its target.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from plantroom.wire.errors import PlantroomError
from tests.bench.deliveries import bounded, drain, flow, side_by_side, wire
from tests.bench.deliveries.stack import Bench, bench
from tests.bench.kit import figures, running
from tests.bench.kit.figures import Figure
from tests.bench.kit.loadgen import LoadError
from tests.bench.kit.running import StartError

_DISK = Path("/var/tmp")  # noqa: S108 -- memory may be mounted on /tmp, and syncs at once


def _measured(here: Bench) -> Iterator[Figure]:
    yield from flow.figures(here)
    yield from drain.figures(here)
    yield from wire.figures(here)
    if not here.quick:
        yield from side_by_side.figures(here)
        yield from bounded.figures(here)


def main() -> int:
    """Measure, print, and say whether every target is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the most telling figures, 50 s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="write live p99 by backlog as SVG"
    )
    parser.add_argument("--folder", type=Path, default=_DISK, help="on the disk to be measured")
    given = parser.parse_args()
    begin = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begin:6.1f} s  {text}\n")

    running.raise_file_limit()
    found: list[Figure] = []
    try:
        with bench(given.folder, quick=given.quick, say=say) as here:
            found.extend(_measured(here))
    except (LoadError, StartError, PlantroomError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    if given.plot:
        drain.plot(given.plot)
    if given.json:
        sys.stdout.write(figures.as_json(found) + "\n")
    else:
        sys.stdout.write(f"{figures.table(found)}\n")
    return figures.exit_code(found)


if __name__ == "__main__":
    sys.exit(main())
