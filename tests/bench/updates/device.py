"""What an update costs a device: seconds for 8 MB over mTLS, and memory beyond the agent's own.

The device is the product's own process; the broker in front of it is the product's, in this one.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from plantroom.wire.firmware import CHUNK_BYTES
from tests.bench.kit import figures
from tests.bench.kit.figures import Figure
from tests.fakes.ota_gateway import ImageGateway

IMAGE_BYTES = 8 * 1024 * 1024
SECONDS_MAX, MEMORY_MB_MAX = 2.0, 4.0
MB = 1024.0
Say = Callable[[str], None]


def measured(folder: Path, *, quick: bool, say: Say) -> Iterator[Figure]:
    """Update a device a few times, each in a process of its own."""
    runs = [_run(folder, number) for number in range(3 if quick else 7)]
    for number, (seconds, extra_mb, before_mb) in enumerate(runs, 1):
        say(f"update {number}: {seconds:.2f} s, {extra_mb:+.1f} MB over {before_mb:.1f} MB")
    note = f"median of {len(runs)}, {CHUNK_BYTES // 1024} KiB chunks, QoS 1, window 8"
    yield figures.alone(
        "8 MB to one device over mTLS on loopback, asked for until verified",
        median(seconds for seconds, _, _ in runs),
        unit="s",
        target=SECONDS_MAX,
        better="less",
        note=note,
    )
    yield figures.alone(
        "device memory during an update, peak beyond the agent at rest",
        median(extra_mb for _, extra_mb, _ in runs),
        unit="MB",
        target=MEMORY_MB_MAX,
        better="less",
        note=note,
    )


def _run(folder: Path, seed: int) -> tuple[float, float, float]:
    image = random.Random(seed).randbytes(IMAGE_BYTES)  # noqa: S311 -- any bytes
    with tempfile.TemporaryDirectory(dir=folder) as place, ImageGateway().serving() as gateway:
        config = gateway.configure(Path(place) / "device")
        command = [sys.executable, "-m", "plantroom.device", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                gateway.wait(lambda report: report.state == "WAITING")
                before_mb = _memory_mb(process.pid, "VmRSS")
                _forget_peak(process.pid)
                gateway.release(image)
                begun_s = gateway.wait(lambda report: report.state == "DOWNLOADING")
                ended_s = gateway.wait(lambda report: report.state == "VERIFIED")
                peak_mb = _memory_mb(process.pid, "VmHWM")
            finally:
                process.kill()
    return ended_s - begun_s, peak_mb - before_mb, before_mb


def _forget_peak(pid: int) -> None:
    """Begin a new peak: what the start has needed is no part of an update."""
    with Path(f"/proc/{pid}/clear_refs").open("w", encoding="ascii") as file:
        file.write("5")


def _memory_mb(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / MB


def machine() -> str:
    """Say how loaded this machine is: a timing taken beside others is a loaded one."""
    return f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
