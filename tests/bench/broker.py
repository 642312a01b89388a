"""Our broker beside Mosquitto, NATS and amqtt: 100 clients, mutual TLS 1.3, QoS 1, 100 bytes.

    python -m tests.bench.broker [--quick] [--json] [--plot FILE] [--folder DIR]

Every publish goes into one durable sink with us, with policy on; peers get one offline persistent
subscriber with queue limits lifted, and are measured without one too. Ratios are medians of
interleaved pairs. Exit code 1 when a figure misses its target.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.brokers import contenders, latency, memory, pipeline, throughput
from tests.bench.brokers.contenders import Contender, MissingError
from tests.bench.brokers.measuring import Bench, bench
from tests.bench.kit import disk, figures, plot, running
from tests.bench.kit.figures import Figure
from tests.bench.kit.loadgen import LoadError
from tests.bench.kit.running import StartError

_TITLE = "plantroom broker: 100 clients, mTLS 1.3, QoS 1, 100 B, durable before the PUBACK"
_BUDGET_S = 3600.0
_QUICK_BUDGET_S = 34.0  # nothing new is begun after it
_DISK = Path("/var/tmp")  # noqa: S108 -- memory may be mounted on /tmp, and syncs at once
_DURABLE = "durable publishes/s, window 20"
_PEERS: dict[str, float | None] = {"Mosquitto": 3.0, "NATS, fsync always": 20.0, "amqtt": None}


def _find(here: Bench, *, install: bool) -> dict[str, Contender | str]:
    """Find every peer, or why it is missing."""
    finders: dict[str, Callable[[], Contender]] = {
        "Mosquitto": lambda: contenders.mosquitto(install=install),
        "NATS, fsync always": lambda: contenders.nats(install=install, folder=here.work),
        "amqtt": contenders.amqtt,
    }
    found: dict[str, Contender | str] = {}
    for name, finder in finders.items():
        try:
            found[name] = finder()
        except MissingError as error:
            found[name] = str(error)
    return found


def _quick(here: Bench) -> Iterator[Figure]:
    peers = _find(here, install=False)
    yield latency.puback_p99(here)[0]
    mosquitto = peers["Mosquitto"]
    if isinstance(mosquitto, Contender):
        yield throughput.one_subscriber(here, mosquitto, target=5.0)
    else:
        yield _missing("one QoS 1 subscriber of 100 publishers", "Mosquitto", mosquitto)
    for name, target in _PEERS.items():
        peer = peers[name]
        if isinstance(peer, Contender) and time.monotonic() < here.deadline_s:
            pairs = None if name == "Mosquitto" else 1
            yield from throughput.durable(here, peer, target=target, pairs=pairs)
        else:
            yield _missing(_DURABLE, name, peer if isinstance(peer, str) else "no time was left")


def _full(here: Bench) -> Iterator[Figure]:
    peers = _find(here, install=True)
    found = [peer for peer in peers.values() if isinstance(peer, Contender)]
    puback, syncs = latency.puback_p99(here)
    yield puback
    for name, target in _PEERS.items():
        peer = peers[name]
        if isinstance(peer, Contender):
            yield from throughput.durable(here, peer, target=target)
            yield from throughput.durable(here, peer, target=None, offline=False, pairs=3)
        else:
            yield _missing(_DURABLE, name, peer)
    mosquitto = peers["Mosquitto"]
    if isinstance(mosquitto, Contender):
        sync_ms = (syncs + disk.measure(here.work, seconds=1.0)).percentile_ms(0.5)
        yield throughput.window_1(here, mosquitto, offline=True, sync_ms=sync_ms)
        yield throughput.window_1(here, mosquitto, offline=False, sync_ms=sync_ms)
        yield throughput.paced(here, mosquitto)
        yield throughput.one_subscriber(here, mosquitto, target=5.0)
        yield pipeline.readings(here, mosquitto)
        yield throughput.fan_out(here, mosquitto)
    else:
        yield _missing("windows, CPU, subscribers, fan-out", "Mosquitto", mosquitto)
    yield from memory.tls_clients(here, found)
    yield memory.idle_sessions(here)


def _missing(figure: str, name: str, why: str) -> Figure:
    return figures.missing(figure, peer_name=name, unit="msg/s", why=why)


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
    budget_s = _QUICK_BUDGET_S if given.quick else _BUDGET_S
    found: list[Figure] = []
    try:
        with bench(given.folder, quick=given.quick, say=say, budget_s=budget_s) as here:
            found.extend((_quick if given.quick else _full)(here))
            generator = max(here.loads, default=0.0)
    except (LoadError, StartError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    if given.plot:
        plot.write(given.plot, found, _TITLE)
    if given.json:
        sys.stdout.write(figures.as_json(found) + "\n")
    else:
        sys.stdout.write(f"{figures.table(found)}\n\n")
        sys.stdout.write(f"the generator used {generator:.0%} of one core at most\n")
    return figures.exit_code(found)


if __name__ == "__main__":
    sys.exit(main())
