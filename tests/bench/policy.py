"""What policy costs: a decision, a broker that asks for each publish, a change that takes effect.

    python -m tests.bench.policy [--quick] [--json] [--plot FILE] [--folder DIR]

The peer of a decision is a real OPA server on this machine (`scripts/install-opa`); that of the
broker is the same broker with nobody to ask. Exit code 1 when a figure misses its target.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.brokers import contenders
from tests.bench.brokers.measuring import bench, values
from tests.bench.brokers.throughput import WINDOW_20
from tests.bench.kit import command, figures, running
from tests.bench.kit.command import Given
from tests.bench.kit.figures import Figure
from tests.bench.kit.loadgen import LoadError
from tests.bench.policies import asking, live

_TITLE = "plantroom policy: 10,000 registered devices, the shipped bundle"
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


def _measured(given: Given) -> Iterator[Figure]:
    folder, say, quick = given.folder, given.say, given.quick
    running.raise_file_limit()
    say("one decision")
    yield from asking.decisions(quick=quick)
    say("the broker, with policy and without")
    yield from _broker(folder, say, quick=quick)
    for count in live.TARGETS_S if not quick else (100,):
        say(f"a change with {count:,} live sensors")
        yield from live.changes(count)


def main() -> int:
    """Measure, print, and say whether every target is met."""
    return command.run(__doc__, _TITLE, _measured)


if __name__ == "__main__":
    sys.exit(main())
