"""A benchmark as a command: its flags, its progress on stderr, its table or JSON, its exit code."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from plantroom.wire.errors import PlantroomError
from tests.bench.kit import figures, plot
from tests.bench.kit.figures import Figure
from tests.bench.kit.loadgen import LoadError
from tests.bench.kit.running import StartError

DISK = Path("/var/tmp")  # noqa: S108 -- memory may be mounted on /tmp, and syncs at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a benchmark is told: where its files go, how thorough it is, whom to tell."""

    folder: Path
    quick: bool
    say: Callable[[str], None]


def run(doc: str | None, title: str, measured: Callable[[Given], Iterable[Figure]]) -> int:
    """Measure, print, and say whether every target is met."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the most telling figures, 50 s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the ratios as SVG")
    parser.add_argument("--folder", type=Path, default=DISK, help="on the disk to be measured")
    given = parser.parse_args()
    begin = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begin:6.1f} s  {text}\n")

    try:
        found = list(measured(Given(folder=given.folder, quick=given.quick, say=say)))
    except (PlantroomError, LoadError, StartError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    if given.plot:
        plot.write(given.plot, found, title)
    text = figures.as_json(found) if given.json else figures.table(found)
    sys.stdout.write(f"{text}\n")
    return figures.exit_code(found)
