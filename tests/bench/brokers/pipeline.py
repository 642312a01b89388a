"""The gateway's whole path, to a receipt for each reading, beside a plain delivery by a peer."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from plantroom.wire import senml
from plantroom.wire.reading import Point, Reading
from tests.bench.brokers.contenders import Contender, our_gateway
from tests.bench.brokers.measuring import CLIENTS, TOPIC, Bench
from tests.bench.brokers.throughput import SUBSCRIBED
from tests.bench.kit.figures import Figure, Pair, compared
from tests.bench.kit.loadgen import LoadError
from tests.bench.kit.running import Running
from tests.fakes.issuer import BUILDING

_READINGS_EACH = 500
_TAKEN_AT_US = 1_790_000_000_000_000
_PATIENCE_S = 60.0


def readings(bench: Bench, peer: Contender) -> Figure:
    """One reading a publish, decoded, booked, batched and receipted; a peer only delivers."""
    payloads = bench.work / "payloads"
    payloads.write_bytes(b"".join(_payloads(number) for number in range(CLIENTS)))
    pairs: list[Pair] = []
    for number in range(3):
        if number % 2:
            theirs = bench.run(peer, SUBSCRIBED).received_per_s
            pairs.append(Pair(_receipted_per_s(bench, payloads), theirs))
        else:
            mine = _receipted_per_s(bench, payloads)
            pairs.append(Pair(mine, bench.run(peer, SUBSCRIBED).received_per_s))
    return compared(
        "readings to their receipt, one a publish",
        pairs,
        peer_name=f"{peer.name}, delivery to one subscriber",
        unit="readings/s",
        target=0.5,
    )


def _payloads(client: int) -> bytes:
    packed = b"".join(
        struct.pack("=I", len(data)) + data
        for data in (_payload(client, seq) for seq in range(_READINGS_EACH))
    )
    return struct.pack("=Q", len(packed)) + packed


def _payload(client: int, seq: int) -> bytes:
    reading = Reading(
        device=f"spiffe://{BUILDING}/agent/bench-{client:05d}",
        time_us=_TAKEN_AT_US + seq * 1_000_000,
        epoch=7,
        seq=seq,
        points=(Point(name="temperature", unit="Cel", value=20 + seq % 50 / 10),),
    )
    return senml.encode([reading])


def _receipted_per_s(bench: Bench, payloads: Path) -> float:
    """Publish every payload once, and wait until the last reading has its receipt."""
    with our_gateway().start(bench.work, bench.identities) as gateway:
        arguments = ("--publishers", f"bench:{CLIENTS}", "--topic", TOPIC, "--window", "20")
        more = ("--payloads", str(payloads), "--seconds", str(_PATIENCE_S))
        with bench.load(gateway, *arguments, *more) as load:
            begin_ns, before_s = time.monotonic_ns(), gateway.cpu_s()
            seen = load.go()
            end_ns = _receipted_at_ns(gateway, seen.acked)
            cpu_s = gateway.cpu_s() - before_s
    rate = seen.acked / ((end_ns - begin_ns) / 1e9)
    cpu_s_per_100k = cpu_s / seen.acked * 1e5
    bench.say(f"plantroom gateway: {rate:,.0f} readings/s, {cpu_s_per_100k:.1f} CPU s/100,000")
    return rate


def _receipted_at_ns(gateway: Running, count: int) -> int:
    until = time.monotonic() + _PATIENCE_S
    reached = 0
    while time.monotonic() < until and gateway.process.poll() is None:
        for reached, at_ns in _receipts(gateway):
            if reached >= count:
                return at_ns
        time.sleep(0.05)
    raise LoadError(f"{reached} of {count} readings have a receipt: {gateway.log()[-800:]}")


def _receipts(gateway: Running) -> Iterator[tuple[int, int]]:
    for line in gateway.log().splitlines():
        if line.startswith('{"receipted"') and line.endswith("}"):
            said = json.loads(line)
            yield said["receipted"], said["at_ns"]
