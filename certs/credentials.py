"""Certificates for tools that cannot rotate: an operator's or inspector's folder of PEM files.

`ca.pem` holds the roots of every trust domain, so that one folder serves both brokers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plantroom.certs import atomic, pem
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.wire.identity import Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

TTL_S = 12 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The three files of a folder, and the SVID in it."""

    certificate: Path
    key: Path
    roots: Path
    svid: Svid


def write_folder(
    authority: Authority,
    spiffe_id: SpiffeId,
    folder: Path,
    *,
    bundles: Mapping[str, TrustBundle],
    ttl_s: int = TTL_S,
) -> Credentials:
    """Issue a certificate and write `cert.pem`, `key.pem` (0600) and `ca.pem` into the folder.

    `bundles`: those of the other trust domains; the authority's own is added.

    Raises:
        StorageError: when the folder cannot be written.
    """
    svid = issue_svid(authority, spiffe_id, ttl_s=ttl_s)
    return write_svid(svid, folder, {**bundles, authority.trust_domain: authority.bundle()})


def write_svid(svid: Svid, folder: Path, bundles: Mapping[str, TrustBundle]) -> Credentials:
    """Write an SVID that there is already, and the roots of all these trust domains.

    Raises:
        StorageError: when the folder cannot be written.
    """
    made = Credentials(
        certificate=folder / "cert.pem",
        key=folder / "key.pem",
        roots=folder / "ca.pem",
        svid=svid,
    )
    roots = b"".join(pem.bundle_pem(bundles[name].roots_der) for name in sorted(bundles))
    atomic.make_private_folder(folder)
    atomic.write(made.roots, roots, mode=atomic.PUBLIC)
    atomic.write(made.key, svid.key_pem)
    atomic.write(made.certificate, svid.chain_pem, mode=atomic.PUBLIC)
    return made
