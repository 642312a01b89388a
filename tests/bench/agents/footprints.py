"""An agent and a bare publisher against the same gateway: what each takes of the machine."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.bench.agents import bare
from tests.bench.deliveries.stack import TOPIC, Bench, Stack, Way, bench, stack
from tests.bench.kit.command import Given
from tests.bench.kit.figures import Figure, Pair, alone, compared
from tests.bench.kit.loadgen import LoadError
from tests.bench.kit.running import ROOT

AGENT, PEER = "hvac-001", "bare-001"
PEER_NAME = "bare paho + SQLite"
PRIVATE_MB_MAX = 20.0  # of a device of 64 MB: the agent's share
RATIO_MAX = 1.75
_PER_S = 100  # readings, where an hour is to pass in half a minute
_HOUR, _BUFFER = 3600, 1000  # readings: one a second; what an outbox keeps by default
_SETTLE_S = 20.0
_PATIENCE_S = 120.0

Footprint = tuple[float, float]  # private and resident, in MB of 10^6 bytes


def figures(given: Given) -> Iterator[Figure]:
    """Measure both at a reading a second, then the agent behind an hour without a network."""
    pairs: list[tuple[Footprint, Footprint]] = []
    with (
        bench(given.folder, quick=given.quick, say=given.say) as here,
        stack(here, [AGENT, PEER]) as running,
        Way(running.ports.gateway_mqtt).running() as way,
    ):
        for turn in range(1 if given.quick else 3):
            given.say(f"one reading a second, {turn + 1}")
            with _agent(here, running, way, per_s=1) as ours, _bare(here, running) as peer:
                time.sleep(_SETTLE_S)
                pairs.append((_footprint(ours), _footprint(peer)))
        given.say(f"{_HOUR} readings without a network")
        behind = _behind_an_outage(here, running, way)
    peer_now = pairs[-1][1]
    yield alone(
        "agent, private memory at a reading a second",
        median(ours[0] for ours, _ in pairs),
        unit="MB",
        target=PRIVATE_MB_MAX,
        better="less",
    )
    yield from _compared("at a reading a second", pairs)
    yield from _compared(f"after {_HOUR:,} readings offline, all sent", [(behind, peer_now)])


def _compared(when: str, pairs: list[tuple[Footprint, Footprint]]) -> Iterator[Figure]:
    for at, what in enumerate(("private", "resident")):
        yield compared(
            f"agent, {what} memory {when}",
            [Pair(ours[at], peer[at]) for ours, peer in pairs],
            peer_name=PEER_NAME,
            unit="MB",
            target=RATIO_MAX,
            better="less",
        )


def _behind_an_outage(here: Bench, running: Stack, way: Way) -> Footprint:
    before = running.stored()
    with _agent(here, running, way, per_s=_PER_S) as ours:
        running.until_stored(before + _PER_S, patience_s=_PATIENCE_S)
        way.cut()
        time.sleep(_HOUR / _PER_S)
        kept = running.stored() + _BUFFER
        way.mend()
        running.until_stored(kept + _PER_S, patience_s=_PATIENCE_S)
        return _footprint(ours)


@contextmanager
def _agent(
    here: Bench, running: Stack, way: Way, *, per_s: int
) -> Iterator[subprocess.Popen[bytes]]:
    folder = here.folder("agent")
    pem, roots = running.identities / f"{AGENT}.pem", running.identities / "roots.pem"
    config = folder / "device.toml"
    config.write_text(
        f'[agent]\nname = "{AGENT}"\nstate = "{folder / "state"}"\n'
        f'[identity]\nprovider = "files"\nchain_file = "{pem}"\nkey_file = "{pem}"\n'
        f'bundle_file = "{roots}"\n[uplink]\naddress = "{way.way.address}"\n'
        f'reconnect_s_max = 1.0\n[policy]\nendpoint = "127.0.0.1:{running.ports.gateway_policy}"\n'
        f"[buffer]\nreadings_max = {_BUFFER}\n"
        f'[sampling]\nspeed = {60.0 * per_s}\n[log]\ntarget = "stderr"\n',
        encoding="utf-8",
    )
    with _process("-m", "plantroom.device", str(config), log=folder / "log") as process:
        yield process


@contextmanager
def _bare(here: Bench, running: Stack) -> Iterator[subprocess.Popen[bytes]]:
    folder = here.folder("bare")
    pem, roots = running.identities / f"{PEER}.pem", running.identities / "roots.pem"
    told = (running.ports.gateway_mqtt, pem, roots, TOPIC.format(name=PEER), folder / "rows.db")
    with _process(bare.__file__, *map(str, told), log=folder / "log") as process:
        yield process


@contextmanager
def _process(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
        if process.poll() is not None:
            raise LoadError(f"{arguments} ended: {log.read_text(errors='replace')[-500:]}")
    finally:
        process.kill()
        process.wait()


def _footprint(process: subprocess.Popen[bytes]) -> Footprint:
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    kib = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return private * 1024 / 1e6, kib["Rss"] * 1024 / 1e6
