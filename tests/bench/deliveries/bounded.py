"""A gateway in a cgroup of 256 MB and one core: 300 sensors, 72 hours of readings, a drain."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.deliveries import load
from tests.bench.deliveries.stack import Bench, stack
from tests.bench.kit.figures import Figure, alone, missing
from tests.bench.kit.loadgen import LoadError

SENSORS, HOURS = 300, 72
MEMORY_BYTES = 256 * 1024 * 1024
_WINDOW = 20  # publishes of a sensor in the air: five times as many as our agent has
_READINGS = 60  # a publish: an hour of a reading a minute
_ROOT = Path("/sys/fs/cgroup")
_FIGURE = f"gateway in 256 MB and one core: {SENSORS} sensors, {HOURS} h offline, drained"
_ENTER = "import os, sys; [open(f, 'w').write(str(os.getpid())) for f in sys.argv[1].split(',')]; "
_ENTER += "os.execv(sys.argv[2], sys.argv[2:])"


def figures(bench: Bench) -> Iterator[Figure]:
    """Run it, if this machine lets us make a cgroup."""
    try:
        with _cgroup() as (entrances, peak):
            yield from _measured(bench, entrances, peak)
    except OSError as error:
        yield missing(_FIGURE, peer_name="cgroup", unit="MB", why=f"not possible here: {error}")


def _measured(bench: Bench, entrances: list[Path], peak: Path) -> Iterator[Figure]:
    payloads = bench.work / "offline"
    count = load.write(payloads, clients=SENSORS, packs=HOURS, readings=_READINGS)
    wrap = (sys.executable, "-c", _ENTER, ",".join(map(str, entrances)))
    with stack(bench, load.names(SENSORS), wrap=wrap, cut=True) as running:
        try:
            load.publish(bench, running, payloads, SENSORS, window=_WINDOW)
        except LoadError as error:  # most likely the kernel has killed it for its memory
            yield alone(f"{_FIGURE}: survives", 0, unit="runs", target=1, note=str(error))
            return
        running.until_queued(count, patience_s=load.PATIENCE_S)
        if running.wan is not None:
            running.wan.mend()
        begin_s = time.monotonic()
        end_s = running.until_stored(count, patience_s=load.PATIENCE_S)
        status = Path(f"/proc/{running.gateway.process.pid}/status").read_text(encoding="utf-8")
        rss = re.search(r"VmHWM:\s+(\d+) kB", status)
        stored = running.stored()
    rss_mb = int(rss[1]) * 1024 / 1e6 if rss else 0.0
    cgroup_mb = int(peak.read_text(encoding="utf-8")) / 1e6
    note = f"cgroup's peak {cgroup_mb:.0f} MB with its page cache, limit {MEMORY_BYTES / 1e6:.0f}"
    yield alone(f"{_FIGURE}: peak RSS", rss_mb, unit="MB", note=note)
    yield alone(
        f"{_FIGURE}: lost",
        count - stored,
        unit="readings",
        target=0,
        better="less",
        note=f"{count:,} readings, drained at {count / (end_s - begin_s):,.0f}/s",
    )


@contextmanager
def _cgroup() -> Iterator[tuple[list[Path], Path]]:
    """Make the group; give the files to enter it by, and the one that says its peak."""
    name = f"plantroom-bench-{os.getpid()}"
    if (_ROOT / "cgroup.controllers").exists():
        (_ROOT / "cgroup.subtree_control").write_text("+memory +cpu")
        folders = [_ROOT / name]
        limits = {"memory.max": str(MEMORY_BYTES), "cpu.max": "100000 100000"}
        peak, entrance = "memory.peak", "cgroup.procs"
    else:
        folders = [_ROOT / "memory" / name, _ROOT / "cpu" / name]
        limits = {
            "memory.limit_in_bytes": str(MEMORY_BYTES),
            "cpu.cfs_period_us": "100000",
            "cpu.cfs_quota_us": "100000",
        }
        peak, entrance = "memory.max_usage_in_bytes", "cgroup.procs"
    try:
        for folder in folders:
            folder.mkdir()
            for limit, value in limits.items():
                if (folder / limit).exists():
                    (folder / limit).write_text(value)
        yield [folder / entrance for folder in folders], folders[0] / peak
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
