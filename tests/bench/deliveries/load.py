"""Payloads for the generator: packs as our sensors make them, three points a reading."""

import struct
import time
from pathlib import Path

from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire import senml
from plantroom.wire.reading import Point, Reading
from tests.bench.deliveries.stack import TOPIC, Bench, Stack
from tests.bench.kit import loadgen

_BEGIN_US = 1_790_000_000_000_000
PATIENCE_S = 600.0


def names(count: int) -> list[str]:
    """Return the generator's clients."""
    return [f"bench-{number:05d}" for number in range(count)]


def write(path: Path, *, clients: int, packs: int, readings: int, epoch: int = 7) -> int:
    """Write what every client publishes, once each; return how many readings that is."""
    with path.open("wb") as file:
        for client in range(clients):
            packed = b"".join(
                struct.pack("=I", len(data)) + data
                for data in (_pack(client, epoch, number, readings) for number in range(packs))
            )
            file.write(struct.pack("=Q", len(packed)) + packed)
    return clients * packs * readings


def _pack(client: int, epoch: int, number: int, readings: int) -> bytes:
    return senml.encode(
        [
            Reading(
                device=f"spiffe://{TRUST_DOMAIN}/agent/bench-{client:05d}",
                time_us=_BEGIN_US + seq * 1_000_000,
                epoch=epoch,
                seq=seq,
                points=(
                    Point(name="humidity", unit="%RH", value=40 + (seq * 7 + client) % 90 / 10),
                    Point(name="power", unit="W", value=(seq * 31 + client) % 2000),
                    Point(name="temperature", unit="Cel", value=20 + (seq + client) % 50 / 10),
                ),
            )
            for seq in range(number * readings, (number + 1) * readings)
        ]
    )


def publish(
    bench: Bench, running: Stack, payloads: Path, clients: int, *, window: int = 20
) -> float:
    """Publish every payload once; return the moment at which that began."""
    arguments = (
        *("--port", str(running.ports.gateway_mqtt), "--identities", str(running.identities)),
        *("--publishers", f"bench:{clients}", "--topic", TOPIC, "--window", str(window)),
        *("--payloads", str(payloads), "--seconds", str(PATIENCE_S)),
        *("--drain", str(PATIENCE_S)),  # what is sent has to be answered, however long that takes
    )
    with loadgen.load(bench.program, arguments) as load:
        begin_s = time.monotonic()
        seen = load.go()
    bench.say(f"{seen.acked:,} publishes acknowledged, {seen.acked_per_s:,.0f}/s")
    return begin_s
