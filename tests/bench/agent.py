"""What a sensor's agent costs in memory, beside the least that a Python program can do.

    python -m tests.bench.agent [--quick] [--json] [--plot FILE] [--folder DIR]

The agent is the product's own, against a gateway and a cloud that run, mutual TLS and policy on.
The peer does far less: a row in SQLite, a publish through the same `paho-mqtt`, the row deleted
with the PUBACK. `private` is what one more process takes from the machine (USS); `resident` (RSS)
counts the pages of libraries as well, which all programs share. Exit code 1 when a figure misses
its target.
"""

import sys
from collections.abc import Iterator

from tests.bench.agents import footprints
from tests.bench.kit import command
from tests.bench.kit.command import Given
from tests.bench.kit.figures import Figure


def _measured(given: Given) -> Iterator[Figure]:
    yield from footprints.figures(given)


if __name__ == "__main__":
    sys.exit(command.run(__doc__, "Memory of an agent, beside a bare publisher", _measured))
