"""What each identity source weighs in a process, beside PyPI's `spiffe`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.bench.kit.figures import Figure, Pair, alone, compared, missing
from tests.bench.kit.running import ROOT, StartError

_OURS = {
    "enrolled": "the sensor's, enrolled at the gateway",
    "workload": "the sensor's, from a Workload API",
    "files": "the sensor's, from files",
    "embedded": "the gateway's, an issuer of its own",
}
_SPIFFE = "PyPI spiffe"


def weigh(kind: str, folder: Path, port: int) -> dict[str, int]:
    """Return RSS, PSS and USS of one source in KiB.

    Raises:
        StartError: when it got no identity.
    """
    command = [sys.executable, "-m", "tests.bench.issuing.holder", kind, str(folder), str(port)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise StartError(f"{kind}: {done.stderr[-1500:]}")
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def figures(folder: Path, port: int, *, quick: bool) -> Iterator[Figure]:
    """Weigh every source, ours and the peer in turn."""
    rounds = 3 if quick else 7
    name = "memory of a Workload API's identity, USS"
    if find_spec("spiffe") is None:
        yield missing(name, peer_name=_SPIFFE, unit="MiB", why="pip install spiffe")
    else:
        pairs = [
            Pair(
                weigh("workload", folder, port)["uss"] / 1024,
                weigh("spiffe", folder, port)["uss"] / 1024,
            )
            for _ in range(rounds)
        ]
        yield compared(
            name, pairs, peer_name=_SPIFFE, unit="MiB", target=0.5, better="less",
            note="whole process",
        )  # fmt: skip
    floor = [weigh("nothing", folder, port) for _ in range(rounds)]
    for kind, what in _OURS.items():
        if quick and kind != "enrolled":
            continue
        found = [weigh(kind, folder, port) for _ in range(rounds)]
        for size in ("rss", "pss", "uss"):
            ours = median(one[size] for one in found)
            more = ours - median(one[size] for one in floor)
            light = kind != "embedded" and size == "uss"
            yield alone(
                f"{kind}: {size.upper()}", ours / 1024, unit="MiB",
                target=20.0 if light else None, better="less",
                note=f"{what}; {more / 1024:+.1f} MiB to Python with TLS",
            )  # fmt: skip
