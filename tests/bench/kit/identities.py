"""Identities for a load: one SVID each, as files that the generator and every broker can read."""

import json
from collections.abc import Iterable
from pathlib import Path
from ssl import DER_cert_to_PEM_cert, PEM_cert_to_DER_cert

from tests.fakes.issuer import BUILDING, Issuer

SITE = "building-1"
GATEWAY = "gateway"


def write(folder: Path, sensors: Iterable[str]) -> None:
    """Write `NAME.pem` for every sensor and the gateway, the server's pair, roots and registry."""
    folder.mkdir(parents=True, exist_ok=True)
    issuer = Issuer(BUILDING)
    devices: dict[str, dict[str, str]] = {}
    for name, role in (*((name, "sensor") for name in sensors), (GATEWAY, GATEWAY)):
        spiffe_id = f"spiffe://{BUILDING}/agent/{name}"
        svid = issuer.svid(spiffe_id)
        (folder / f"{name}.pem").write_bytes(svid.chain_pem + svid.key_pem)
        devices[spiffe_id] = {"role": role, "site": SITE, "device": name, "status": "active"}
    server = issuer.svid(f"spiffe://{BUILDING}/agent/{GATEWAY}")
    (folder / "server.crt").write_bytes(server.chain_pem)
    (folder / "server.key").write_bytes(server.key_pem)
    roots = map(DER_cert_to_PEM_cert, issuer.bundle().roots_der)
    (folder / "roots.pem").write_text("".join(roots))
    (folder / "registry.json").write_text(json.dumps({"devices": devices}))


def roots_der(folder: Path) -> tuple[bytes, ...]:
    """Read the roots of a folder that `write` made."""
    return (PEM_cert_to_DER_cert((folder / "roots.pem").read_text()),)
