"""Bytes on the bridge's wire for recordings of real rooms: TLS, MQTT, hellos and all."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from plantroom.lab import ask
from plantroom.lab.ports import HOST
from tests.bench.deliveries.stack import DATA, Bench, Way, free_ports
from tests.bench.kit.figures import Figure, alone, missing
from tests.bench.kit.loadgen import LoadError

_STORED_S = 600.0
_ROOMS = (
    ("the office room, 6 values", "occupancy-datatraining.csv", 6, 30.0, False),
    ("the house, 29 columns", "appliances-energy.csv", 28, 3.0, True),
)


def figures(bench: Bench) -> Iterator[Figure]:
    """Replay each recording into a queue that waits, then let it drain."""
    for what, name, values, target, by_value in _ROOMS[: 1 if bench.quick else None]:
        figure = f"bridge's wire, batches of 500, {what}"
        unit = "bytes/value" if by_value else "bytes/reading"
        path = DATA / name
        if not path.exists():
            yield missing(figure, peer_name="recording", unit=unit, why=f"{name} is not there")
            continue
        up, down, rows = _carried(bench, path, 3_000 if bench.quick else None)
        each = up / rows / (values if by_value else 1)
        note = f"{up / rows:.1f} bytes a reading up, {down / rows:.1f} down, {rows} readings"
        yield alone(figure, each, unit=unit, target=target, better="less", note=note)


def _carried(bench: Bench, recording: Path, limit: int | None) -> tuple[int, int, int]:
    """Return the bytes up and down, and the readings, of one recording's drain."""
    folder, ports = bench.folder("wire"), free_ports()
    played = _first_rows(recording, folder / recording.name, limit)
    rows = sum(1 for _ in csv.reader(played.open(encoding="utf-8"))) - 1
    with Way(ports.cloud_mqtt).running() as wan:
        wan.cut()
        up = subprocess.Popen(
            [
                *(sys.executable, "-m", "plantroom.cli.main", "up", "--json"),
                *("--exit-when-stored", "--replay", str(played), "--speed", "1000000"),
                *("--port-base", str(ports.gateway_mqtt), "--state", str(folder / "state")),
            ],
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("wb"),
            text=True,
            env={**os.environ, "PLANTROOM_BRIDGE_ADDRESS": wan.way.address},
        )
        try:
            if up.stdout is None or not up.stdout.readline():
                raise LoadError(f"up does not come up: {(folder / 'stderr').read_text()[-500:]}")
            _until_queued(ports.gateway_http, rows)
            wan.mend()
            code = up.wait(_STORED_S)
            carried = wan.way.carried_bytes
        finally:
            up.terminate()
            up.wait(60)
    if code:
        raise LoadError(f"up ended with {code}: {(folder / 'stderr').read_text()[-500:]}")
    bench.say(f"{recording.name}: {json.dumps(carried)} bytes for {rows} readings")
    return carried["up"], carried["down"], rows


def _first_rows(recording: Path, played: Path, limit: int | None) -> Path:
    lines = recording.read_text(encoding="utf-8").splitlines(keepends=True)
    played.write_text("".join(lines[: None if limit is None else limit + 1]), encoding="utf-8")
    return played


def _until_queued(port: int, rows: int) -> None:
    give_up_s = time.monotonic() + _STORED_S
    while ask.get_json(port, "/api/status")["queued"] < rows:
        if time.monotonic() > give_up_s:
            raise LoadError(f"not all {rows} rows are queued, at {HOST}:{port}")
        time.sleep(0.3)
