"""What identity costs: memory of each source, SVIDs issued and renewed, checks, attestation.

    python -m tests.bench.identity [--quick] [--json] [--plot FILE] [--folder DIR]

The issuer is the product's own enrolment port and Workload API in a process of its own; the peer
in memory is PyPI's `spiffe`. Exit code 1 when a figure misses its target.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.issuing import memory, rates
from tests.bench.kit import command, running
from tests.bench.kit.command import Given
from tests.bench.kit.figures import Figure

_TITLE = "plantroom identity"


def _measured(folder: Path, say: Callable[[str], None], *, quick: bool) -> Iterator[Figure]:
    port = running.free_port()
    server = [sys.executable, "-m", "tests.bench.issuing.server", str(folder), str(port)]
    with running.running(server, port=port, folder=folder):
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


def _in_a_folder(given: Given) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        yield from _measured(Path(folder), given.say, quick=given.quick)


def main() -> int:
    """Measure, print, and say whether every target is met."""
    return command.run(__doc__, _TITLE, _in_a_folder)


if __name__ == "__main__":
    sys.exit(main())
