"""From sensors' publishes to queryable rows, everything included."""

from collections.abc import Iterator

from tests.bench.deliveries import load
from tests.bench.deliveries.stack import Bench, stack
from tests.bench.kit.figures import Figure, alone

CLIENTS = 50
TARGET_PER_S = 17_000.0


def figures(bench: Bench) -> Iterator[Figure]:
    """Measure packs of ten readings, and of one."""
    yield _end_to_end(bench, readings=10, packs=200 if bench.quick else 600, target=TARGET_PER_S)
    if not bench.quick:
        yield _end_to_end(bench, readings=1, packs=1000, target=None)


def _end_to_end(bench: Bench, *, readings: int, packs: int, target: float | None) -> Figure:
    payloads = bench.work / f"packs-of-{readings}"
    count = load.write(payloads, clients=CLIENTS, packs=packs, readings=readings)
    with stack(bench, load.names(CLIENTS)) as running:
        running.until_connected(patience_s=load.PATIENCE_S)
        before = [process.cpu_s() for process in (running.gateway, running.cloud)]
        begin_s = load.publish(bench, running, payloads, CLIENTS)
        end_s = running.until_stored(count, patience_s=load.PATIENCE_S)
        after = [process.cpu_s() for process in (running.gateway, running.cloud)]
    rate = count / (end_s - begin_s)
    gateway, cloud = ((b - a) / count * 1e5 for a, b in zip(before, after, strict=True))
    bench.say(
        f"{count:,} readings stored, {rate:,.0f}/s; CPU s/100,000:"
        f" gateway {gateway:.1f}, cloud {cloud:.1f}"
    )
    return alone(
        f"publish to queryable row, {readings} readings a publish",
        rate,
        unit="readings/s",
        target=target,
        note="mTLS, policy, 3 points a reading",
    )
