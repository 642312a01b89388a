"""One identity source in a process of its own, and what it weighs.

`python -m tests.bench.issuing.holder KIND FOLDER PORT` gets an SVID, makes a TLS context of it,
and prints RSS, PSS and USS in KiB. `nothing` is the same process with TLS and without a source.
"""

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plantroom.wire import tls
from plantroom.wire.spiffe import SpiffeId

DOMAIN = "building-1.smart.local"  # as `tests.fakes.issuer` has it, which loads cryptography
GATEWAY = SpiffeId(DOMAIN, "agent/gateway")
SENSOR = SpiffeId(DOMAIN, "agent/hvac-000")


def enrolled(folder: Path, port: int) -> Any:
    """The device's: enrolled with a join token, renewed over mTLS."""
    from plantroom.certs.enrolled import EnrolledSource, write_bundles, write_token
    from plantroom.certs.enrolment_client import Server

    home = folder / "enrolled"
    if not home.exists():
        from plantroom.certs import bundle

        facts = json.loads((folder / "issuer.json").read_text())
        write_bundles(home, bundle.all_from_json(facts["bundles"].encode()))
        write_token(home, facts["tokens"][str(SENSOR)])
    source = EnrolledSource(
        home,
        spiffe_id=SENSOR,
        server=Server(host="127.0.0.1", port=port, spiffe_id=GATEWAY),
    )
    source.renew()
    return source


def files(folder: Path, port: int) -> Any:
    """The device's: PEM that another tool rotates."""
    from plantroom.certs import bundle, pem
    from plantroom.device.identity import PemFiles

    home = folder / "enrolled"
    if not (home / "svid.pem").exists():
        enrolled(folder, port)
    roots = bundle.all_from_json((home / "bundles.json").read_bytes())[DOMAIN].roots_der
    (home / "roots.pem").write_bytes(pem.bundle_pem(roots))
    source = PemFiles(
        chain=home / "svid.pem",
        key=home / "key.pem",
        bundle_file=home / "roots.pem",
        trust_domain=DOMAIN,
    )
    source.renew()
    return source


def workload(folder: Path, _port: int) -> Any:
    """The device's: the SPIFFE Workload API by our light client."""
    from plantroom.certs.workload_feed import WorkloadFeed

    source = WorkloadFeed(folder / "api.sock", SENSOR)
    source.renew()
    return source


def embedded(folder: Path, _port: int) -> Any:
    """The gateway's: an issuer of its own."""
    from plantroom.certs.authority import Authority
    from plantroom.certs.embedded import EmbeddedSource
    from plantroom.wire.clock import SystemClock

    authority = Authority.open(folder / "authority", DOMAIN, clock=SystemClock())
    return EmbeddedSource(authority, SENSOR)


def spiffe(folder: Path, _port: int) -> Any:
    """The peer: PyPI's `spiffe`, which brings gRPC and cryptography."""
    from spiffe import X509Source

    source = X509Source(socket_path=f"unix://{folder / 'api.sock'}", timeout_in_seconds=10)
    assert str(source.svid.spiffe_id) == str(SENSOR)
    return source


KINDS: dict[str, Callable[[Path, int], Any]] = {
    "nothing": lambda _folder, _port: None,
    "enrolled": enrolled,
    "files": files,
    "workload": workload,
    "embedded": embedded,
    "spiffe": spiffe,
}


def weight() -> dict[str, int]:
    """Return RSS, PSS and USS of this process in KiB."""
    rows = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    sizes = {row[0].rstrip(":"): int(row[1]) for row in rows if row[-1] == "kB"}
    own = sizes["Private_Dirty"] + sizes["Private_Clean"]
    return {"rss": sizes["Rss"], "pss": sizes["Pss"], "uss": own}


def main() -> None:
    """Hold the identity, and print."""
    kind, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    source = KINDS[kind](folder, port)
    context = (
        tls.client_context(source.current(), server_ids=(GATEWAY,))
        if kind not in {"nothing", "spiffe"}
        else None
    )
    gc.collect()
    sys.stdout.write(json.dumps(weight()) + "\n")
    sys.stdout.flush()
    if kind == "spiffe":
        source.close()
    del source, context


if __name__ == "__main__":
    main()
