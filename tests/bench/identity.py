"""What identity costs: memory of each source, SVIDs issued and renewed, checks, attestation.

    python -m tests.bench.identity [--quick] [--json] [--plot FILE] [--folder DIR]

The issuer is the product's own enrolment port and Workload API in a process of its own; the peer
in memory is PyPI's `spiffe`. Exit code 1 when a figure misses its target.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.issuing import memory, rates
from tests.bench.kit import figures, plot, running
from tests.bench.kit.figures import Figure
from tests.bench.kit.running import StartError

_TITLE = "plantroom identity"
_DISK = Path("/var/tmp")  # noqa: S108 -- memory may be mounted on /tmp, and syncs at once


def _measured(folder: Path, say: Callable[[str], None], *, quick: bool) -> Iterator[Figure]:
    port = running.free_port()
    command = [sys.executable, "-m", "tests.bench.issuing.server", str(folder), str(port)]
    with running.running(command, port=port, folder=folder):
        say("memory of each source")
        yield from memory.figures(folder, port, quick=quick)
        say("renewals")
        yield from rates.renewed(folder, port, quick=quick)
    say("checks")
    yield from rates.verified(quick=quick)
    if not quick:
        say("signatures")
        yield from rates.issued(quick=quick)
        say("a chip")
        yield from rates.attested(quick=quick)


def main() -> int:
    """Measure, print, and say whether every target is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the most telling figures, 50 s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the ratios as SVG")
    parser.add_argument("--folder", type=Path, default=_DISK, help="on the disk to be measured")
    given = parser.parse_args()
    begin = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begin:6.1f} s  {text}\n")

    try:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            found = list(_measured(Path(folder), say, quick=given.quick))
    except StartError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    if given.plot:
        plot.write(given.plot, found, _TITLE)
    text = figures.as_json(found) if given.json else figures.table(found)
    sys.stdout.write(f"{text}\n")
    return figures.exit_code(found)


if __name__ == "__main__":
    sys.exit(main())
