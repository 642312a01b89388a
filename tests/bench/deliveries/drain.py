"""A backlog drains while live readings go on: how fast, and what the live ones notice."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.deliveries import live, load
from tests.bench.deliveries.stack import Bench, Stack, stack
from tests.bench.kit.figures import Figure, Pair, alone, compared
from tests.bench.kit.loadgen import LoadError

LIVE_PER_S = 500.0
DRAIN_TIMES = 20.0  # the live rate
P99_RATIO_MAX = 2.0
_CLIENTS = 20
_READINGS = 50  # a publish of the backlog
_CALM_S = 10.0
_WIDTH, _HEIGHT, _MARGIN = 760, 380, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """One backlog: its drain, and live p99 with and without it."""

    backlog: int
    drained_per_s: float
    calm_p99_ms: float
    p99_ms: float


_SEEN: list[Drain] = []


def figures(bench: Bench) -> Iterator[Figure]:
    """Drain backlogs of several sizes; the largest one counts."""
    sizes = (50_000,) if bench.quick else (10_000, 100_000, 1_000_000)
    _SEEN[:] = [_drain(bench, size) for size in sizes]
    largest = _SEEN[-1]
    yield alone(
        f"drain of a backlog of {largest.backlog:,}",
        largest.drained_per_s,
        unit="readings/s",
        target=DRAIN_TIMES * LIVE_PER_S,
        note=f"while {LIVE_PER_S:g} live readings/s go on",
    )
    yield compared(
        f"live p99 (publish to receipt), backlog of {largest.backlog:,}",
        [Pair(largest.p99_ms, largest.calm_p99_ms)],
        peer_name="without a backlog",
        unit="ms",
        target=P99_RATIO_MAX,
        better="less",
    )


def _drain(bench: Bench, backlog: int) -> Drain:
    payloads = bench.work / f"backlog-{backlog}"
    packs = backlog // (_CLIENTS * _READINGS)
    count = load.write(payloads, clients=_CLIENTS, packs=packs, readings=_READINGS)
    sensors = [*load.names(_CLIENTS), *live.names()]
    with stack(bench, sensors, cut=True) as running:
        if running.wan is None:  # pragma: no cover -- it was asked for
            raise LoadError("there is no way to cut")
        load.publish(bench, running, payloads, _CLIENTS)
        running.until_queued(count, patience_s=load.PATIENCE_S)
        calm_s = _CALM_S / 2 if bench.quick else _CALM_S
        seconds = max(calm_s, count / (DRAIN_TIMES * LIVE_PER_S))
        running.wan.mend()
        running.until_connected(patience_s=load.PATIENCE_S)
        with _live(running, epoch=8, seconds=seconds) as process:
            begin_s, before = time.monotonic(), running.stored()
            end_s = running.until_stored(count, patience_s=load.PATIENCE_S)
            busy = _said(process, until_s=end_s)
        with _live(running, epoch=9, seconds=calm_s) as process:
            calm = _said(process, until_s=time.monotonic() + 2 * _CALM_S)
    drain = Drain(
        backlog=count,
        drained_per_s=(count - before) / (end_s - begin_s),
        calm_p99_ms=calm["p99_ms"],
        p99_ms=busy["p99_ms"],
    )
    bench.say(
        f"backlog {count:,}: {drain.drained_per_s:,.0f}/s, live p50 {busy['p50_ms']:.0f} ms"
        f" ({calm['p50_ms']:.0f}), p99 {drain.p99_ms:.0f} ms ({drain.calm_p99_ms:.0f})"
    )
    return drain


def _live(running: Stack, *, epoch: int, seconds: float) -> "subprocess.Popen[str]":
    layout, ports = running.layout, running.ports
    pem = running.identities / "inspector.pem"
    pem.write_bytes(layout.inspector.cert.read_bytes() + layout.inspector.key.read_bytes())
    return subprocess.Popen(
        [
            *(sys.executable, "-m", live.__name__),
            *("--gateway-port", str(ports.gateway_mqtt), "--cloud-port", str(ports.cloud_mqtt)),
            *("--epoch", str(epoch), "--rate", str(LIVE_PER_S), "--seconds", str(seconds)),
            *("--identities", str(running.identities), "--inspector", str(pem)),
            *("--roots", str(layout.inspector.ca)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def _said(process: "subprocess.Popen[str]", *, until_s: float) -> dict[str, float]:
    patience_s = max(0.0, until_s - time.monotonic()) + load.PATIENCE_S
    out, _ = process.communicate(timeout=patience_s)
    if process.returncode:
        raise LoadError("the live sensors gave up")
    said: dict[str, float] = json.loads(out)
    if said["open"]:
        raise LoadError(f"{said['open']} live readings have no receipt")
    return said


def plot(path: Path) -> None:
    """Draw live p99 against the size of the backlog."""
    path.write_text("\n".join(_picture(_SEEN)) + "\n", encoding="utf-8")


def _picture(seen: list[Drain]) -> Iterator[str]:
    top = max((max(one.p99_ms, 2 * one.calm_p99_ms) for one in seen), default=1.0) * 1.1
    step = (_WIDTH - 2 * _MARGIN) / max(len(seen) - 1, 1)

    def place(number: int, value: float) -> tuple[float, float]:
        return _MARGIN + number * step, _HEIGHT - _MARGIN - value / top * (_HEIGHT - 2 * _MARGIN)

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"'
        ' font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
    )
    yield '<text x="12" y="24" font-size="16">Live p99 from publish to receipt, ms</text>'
    for label, colour, values in (
        ("while a backlog drains", "#c8452f", [one.p99_ms for one in seen]),
        ("without a backlog", "#2a9d63", [one.calm_p99_ms for one in seen]),
    ):
        places = [place(number, value) for number, value in enumerate(values)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for (x, y), value in zip(places, values, strict=True):
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
            yield f'<text x="{x + 6:.1f}" y="{y - 6:.1f}">{value:.0f}</text>'
        x, y = places[-1] if places else (0.0, 0.0)
        yield f'<text x="{x - 150:.1f}" y="{y + 16:.1f}" fill="{colour}">{label}</text>'
    for number, one in enumerate(seen):
        x, _ = place(number, 0.0)
        yield f'<text x="{x:.1f}" y="{_HEIGHT - 30}" text-anchor="middle">{one.backlog:,}</text>'
    yield f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">readings queued</text>'
    yield "</svg>"
