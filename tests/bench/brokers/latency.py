"""How long a PUBACK takes at a fixed rate, beside what the disk itself needs in the same run."""

from statistics import median

from tests.bench.brokers.contenders import ours
from tests.bench.brokers.measuring import Bench, Sample, Scenario
from tests.bench.kit import disk
from tests.bench.kit.disk import Syncs
from tests.bench.kit.figures import Figure, Pair, compared

_SYNC_S = 0.4
_ALLOWED_MS = 3.0
RATE_1000 = Scenario(arguments=("--rate", "1000"))


def puback_p99(bench: Bench) -> tuple[Figure, Syncs]:
    """Open loop at 1,000/s: p99 from the moment a publish was due; syncs measured in between."""
    syncs = Syncs(())
    samples: list[Sample] = []
    pairs: list[Pair] = []
    for _ in range(bench.pairs):
        before = disk.measure(bench.work, seconds=_SYNC_S)
        sample = bench.run(ours(), RATE_1000)
        around = before + disk.measure(bench.work, seconds=_SYNC_S)
        allowed_ms = 2 * around.percentile_ms(0.99) + _ALLOWED_MS
        samples.append(sample)
        pairs.append(Pair(sample.seen.p99_ms, allowed_ms))
        syncs = syncs + around
    note = (
        f"p50 {median(sample.seen.p50_ms for sample in samples):.2f} ms;"
        f" fdatasync p50 {syncs.percentile_ms(0.5):.2f}, p99 {syncs.percentile_ms(0.99):.2f} ms"
    )
    figure = compared(
        "p99 PUBACK at 1,000/s open loop",
        pairs,
        peer_name=f"2 x fdatasync p99 + {_ALLOWED_MS:g} ms",
        unit="ms",
        target=1.0,
        better="less",
        note=note,
    )
    return figure, syncs
