"""Publishes a second, CPU, one subscriber, and fan-out, each beside a peer."""

from collections.abc import Sequence

from tests.bench.brokers.contenders import Contender, ours
from tests.bench.brokers.measuring import FILTER, SENSORS, Bench, Sample, Scenario, values
from tests.bench.kit.figures import Figure, compared
from tests.bench.kit.identities import GATEWAY, SITE

_SYNC_MS_FOR_WINDOW_1 = 0.5
WINDOW_20 = Scenario(arguments=("--window", "20"))
WINDOW_20_OFFLINE = Scenario(arguments=("--window", "20"), offline=True)
WINDOW_1 = Scenario(arguments=("--window", "1"))
WINDOW_1_OFFLINE = Scenario(arguments=("--window", "1"), offline=True)
PACED = Scenario(arguments=("--rate", "2000"))
PACED_OFFLINE = Scenario(arguments=("--rate", "2000"), offline=True)
SUBSCRIBED = Scenario(
    arguments=("--window", "20", "--subscribers", GATEWAY, "--filter", FILTER), warmup_s=0.5
)
FAN_OUT = Scenario(
    arguments=(
        *("--window", "4", "--qos", "0"),
        *("--subscribers", f"bench:{SENSORS}", "--filter", f"v1/{SITE}/fw/+/+"),
    ),
    publishers=GATEWAY,
    topic=f"v1/{SITE}/fw/bench/0",
)


def _acked(sample: Sample) -> float:
    return sample.acked_per_s


def _received(sample: Sample) -> float:
    return sample.received_per_s


def _cpu(sample: Sample) -> float:
    return sample.cpu_s_per_100k


def durable(
    bench: Bench,
    peer: Contender,
    *,
    target: float | None,
    offline: bool = True,
    pairs: int | None = None,
) -> list[Figure]:
    """Ours into a durable sink; a peer's with one offline subscriber, or without."""
    samples = bench.compare(
        (ours(), WINDOW_20), (peer, WINDOW_20_OFFLINE if offline else WINDOW_20), pairs=pairs
    )
    name = f"{peer.name}, offline subscriber" if offline else f"{peer.name}, no subscriber"
    return [
        compared(
            "durable publishes/s, window 20",
            values(samples, _acked),
            peer_name=name,
            unit="msg/s",
            target=target,
        ),
        compared(
            "CPU per 100,000 publishes, window 20",
            values(samples, _cpu),
            peer_name=name,
            unit="s",
            better="less",
        ),
    ]


def window_1(bench: Bench, peer: Contender, *, offline: bool, sync_ms: float) -> Figure:
    """One publish at a time for each client: bound by the commit."""
    promised = sync_ms < _SYNC_MS_FOR_WINDOW_1
    samples = bench.compare(
        (ours(), WINDOW_1),
        (peer, WINDOW_1_OFFLINE if offline else WINDOW_1),
        pairs=None if promised else 3,
    )
    note = f"the disk's fdatasync takes {sync_ms:.2f} ms"
    return compared(
        "durable publishes/s, window 1",
        values(samples, _acked),
        peer_name=f"{peer.name}, offline subscriber" if offline else f"{peer.name}, no subscriber",
        unit="msg/s",
        target=0.6 if promised else None,
        note=note if promised else f"{note}: promised below {_SYNC_MS_FOR_WINDOW_1} ms only",
    )


def paced(bench: Bench, peer: Contender) -> Figure:
    """CPU at a rate that leaves both brokers mostly idle."""
    samples = bench.compare((ours(), PACED), (peer, PACED_OFFLINE))
    return compared(
        "CPU per 100,000 publishes, paced 2,000/s",
        values(samples, _cpu),
        peer_name=f"{peer.name}, offline subscriber",
        unit="s",
        target=2.0,
        better="less",
    )


def one_subscriber(
    bench: Bench, peer: Contender, *, target: float | None, pairs: int | None = None
) -> Figure:
    """A hundred publishers, one QoS 1 subscriber: what it gets a second."""
    samples = bench.compare((ours(), SUBSCRIBED), (peer, SUBSCRIBED), pairs=pairs)
    return compared(
        "one QoS 1 subscriber of 100 publishers",
        values(samples, _received),
        peer_name=peer.name,
        unit="msg/s",
        target=target,
        note=_losses(samples),
    )


def fan_out(bench: Bench, peer: Contender) -> Figure:
    """One publisher, a thousand subscribers, QoS 0."""
    samples = bench.compare((ours(), FAN_OUT), (peer, FAN_OUT), pairs=3)
    return compared(
        "fan-out 1 to 1,000, QoS 0",
        values(samples, _received),
        peer_name=peer.name,
        unit="msg/s",
        note="stretch: 0.7",
    )


def _losses(samples: Sequence[tuple[Sample, Sample]]) -> str:
    lost = [sum(pair[at].seen.acked - pair[at].seen.received for pair in samples) for at in (0, 1)]
    return f"acked but not received: ours {lost[0]}, peer {lost[1]}" if any(lost) else ""
