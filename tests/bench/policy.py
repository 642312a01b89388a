"""What policy costs: a decision, a broker that asks for each publish, a change that takes effect.

    python -m tests.bench.policy [--quick] [--json] [--plot FILE] [--folder DIR]

The peer of a decision is a real OPA server on this machine (`scripts/install-opa`); that of the
broker is the same broker with nobody to ask. Exit code 1 when a figure misses its target.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.brokers import contenders
from tests.bench.brokers.measuring import bench, values
from tests.bench.brokers.throughput import WINDOW_20
from tests.bench.kit import figures, plot, running
from tests.bench.kit.figures import Figure
from tests.bench.kit.loadgen import LoadError
from tests.bench.kit.running import StartError
from tests.bench.policies import asking, live

_TITLE = "plantroom policy: 10,000 registered devices, the shipped bundle"
_DISK = Path("/var/tmp")  # noqa: S108 -- memory may be mounted on /tmp, and syncs at once
_BUDGET_S, _QUICK_BUDGET_S = 600.0, 24.0


def _broker(folder: Path, say: Callable[[str], None], *, quick: bool) -> Iterator[Figure]:
    """Publishes a second with policy on, beside the same broker with policy off."""
    name = "durable publishes/s, policy on beside off"
    budget_s = _QUICK_BUDGET_S if quick else _BUDGET_S
    try:
        with bench(folder, quick=quick, say=say, budget_s=budget_s) as here:
            samples = here.compare(
                (contenders.ours(), WINDOW_20),
                (contenders.ours_without_policy(), WINDOW_20),
                pairs=4 if quick else 9,
            )
    except LoadError as error:
        yield figures.missing(name, peer_name="the load generator", unit="msg/s", why=str(error))
        return
    yield figures.compared(
        name,
        values(samples, lambda sample: sample.acked_per_s),
        peer_name="plantroom, policy off",
        unit="msg/s",
        target=0.9,
    )


def _measured(folder: Path, say: Callable[[str], None], *, quick: bool) -> Iterator[Figure]:
    say("one decision")
    yield from asking.decisions(quick=quick)
    say("the broker, with policy and without")
    yield from _broker(folder, say, quick=quick)
    for count in live.TARGETS_S if not quick else (100,):
        say(f"a change with {count:,} live sensors")
        yield from live.changes(count)


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

    running.raise_file_limit()
    try:
        found = list(_measured(given.folder, say, quick=given.quick))
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
