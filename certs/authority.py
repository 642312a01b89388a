"""The embedded issuer: one root per trust domain, kept on disk, that signs short-lived SVIDs.

The folder holds `authority.json` (which root is active, the bundle's sequence) and for each root
`<name>.pem` and `<name>.key` (0600). The manifest is written last, so a crash leaves no half root.
Source: SPIFFE X509-SVID sections 3 and 4.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import atomic, certificates
from plantroom.certs.entry import SVID_TTL_S_MAX, SVID_TTL_S_MIN
from plantroom.wire.clock import Clock
from plantroom.wire.errors import IdentityError, StorageCorruptError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId

_MANIFEST = "authority.json"
_FILE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Root:
    """A root certificate and its key; `name` is that of its files."""

    name: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Authority:
    """Issues SVIDs of one trust domain; make one with `open`."""

    def __init__(
        self, trust_domain: str, roots: Sequence[Root], *, active: str, sequence: int, clock: Clock
    ) -> None:
        self.trust_domain = trust_domain
        self._roots = {root.name: root for root in roots}
        self._active = self._roots[active]
        self._sequence = sequence
        self._clock = clock

    @classmethod
    def open(cls, folder: Path, trust_domain: str, *, clock: Clock) -> "Authority":
        """Open the authority in this folder, or make it with a new root.

        Raises:
            StorageError: when the folder cannot be read or written, or is damaged.
            IdentityError: when it is another trust domain's, or a key is readable by others.
        """
        atomic.make_private_folder(folder)
        with atomic.translated(folder):
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, atomic.PRIVATE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # set-up and a starting gateway may race
            manifest = atomic.read(folder / _MANIFEST, bytes_max=_FILE_BYTES_MAX)
            if manifest is None:
                manifest = _create(folder, trust_domain, clock)
        finally:
            os.close(handle)
        return cls._load(folder, trust_domain, manifest, clock)

    @classmethod
    def _load(cls, folder: Path, trust_domain: str, data: bytes, clock: Clock) -> "Authority":
        try:
            manifest = json.loads(data)
            found, active = str(manifest["trust_domain"]), str(manifest["active"])
            names, sequence = [str(name) for name in manifest["roots"]], int(manifest["sequence"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(folder / _MANIFEST, f"{type(error).__name__}: {error}") from error
        if found != trust_domain:
            raise IdentityError(
                f"authority is that of {found}, not {trust_domain}",
                reason="wrong-trust-domain",
                where=str(folder),
                remedy="use another folder, or the configured trust domain",
            )
        roots = [_load_root(folder, name) for name in names]
        if active not in names:
            raise _damaged(folder / _MANIFEST, f"{active} is not one of its roots")
        return cls(trust_domain, roots, active=active, sequence=sequence, clock=clock)

    def issue(
        self,
        spiffe_id: SpiffeId,
        public_key: ec.EllipticCurvePublicKey,
        *,
        ttl_s: int,
        dns: Iterable[str] = (),
        ips: Iterable[str] = (),
    ) -> bytes:
        """Sign an SVID and return its chain as PEM, leaf first.

        It is back-dated a little, and never outlives the root.

        Raises:
            IdentityError: when the ID is of another trust domain, the life is out of range, or
                the root has expired.
        """
        if spiffe_id.trust_domain != self.trust_domain:
            raise IdentityError(
                f"{self.trust_domain} does not issue this ID",
                reason="wrong-trust-domain",
                where=str(spiffe_id),
            )
        if not SVID_TTL_S_MIN <= ttl_s <= SVID_TTL_S_MAX:
            raise IdentityError(
                f"life of {ttl_s} s, from {SVID_TTL_S_MIN} to {SVID_TTL_S_MAX} is possible",
                reason="ttl",
            )
        order = certificates.Order(
            spiffe_id=spiffe_id, public_key=public_key, ttl_s=ttl_s, dns=tuple(dns), ips=tuple(ips)
        )
        now_s = self._clock.wall_us() // 1_000_000
        root = self._active
        if now_s >= root.certificate.not_valid_after_utc.timestamp():
            raise IdentityError("root has expired", reason="root-expired", where=self.trust_domain)
        leaf = certificates.svid(order, issuer=root.certificate, key=root.key, now_s=now_s)
        return leaf.public_bytes(serialization.Encoding.PEM)

    def sign(self, data: bytes) -> bytes:
        """Sign with the active root's key; `data` begins with what it is (never a certificate)."""
        return self._active.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def bundle(self) -> TrustBundle:
        """Return the roots that this trust domain's SVIDs chain to."""
        roots = self._roots.values()
        der = (root.certificate.public_bytes(serialization.Encoding.DER) for root in roots)
        return TrustBundle(
            trust_domain=self.trust_domain, roots_der=tuple(der), sequence=self._sequence
        )


def _create(folder: Path, trust_domain: str, clock: Clock) -> bytes:
    key = certificates.new_key()
    root = certificates.self_signed(trust_domain, key, now_s=clock.wall_us() // 1_000_000)
    atomic.write(folder / "root-1.key", certificates.key_pem(key))
    atomic.write(
        folder / "root-1.pem", root.public_bytes(serialization.Encoding.PEM), mode=atomic.PUBLIC
    )
    table = {
        "trust_domain": trust_domain,
        "active": "root-1",
        "sequence": 1,
        "roots": ["root-1"],
    }
    manifest = json.dumps(table, indent=1).encode()
    atomic.write(folder / _MANIFEST, manifest, mode=atomic.PUBLIC)
    return manifest


def _load_root(folder: Path, name: str) -> Root:
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate = _parse(certificate_file, x509.load_pem_x509_certificate)
    _check_private(key_file)
    key = _parse(key_file, lambda data: serialization.load_pem_private_key(data, None))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(key_file, "it is not an elliptic-curve key")
    if key.public_key() != certificate.public_key():
        raise _damaged(key_file, f"it does not belong to {certificate_file.name}")
    return Root(name, certificate, key)


def _check_private(path: Path) -> None:
    if not path.exists():
        raise _damaged(path, "it is missing")
    with atomic.translated(path):
        mode = path.stat().st_mode
    if mode & 0o077:
        raise IdentityError(
            "root key is readable by others",
            reason="key-mode",
            where=str(path),
            remedy="find out who has read it, then chmod 600",
        )


def _parse(path: Path, parse: Any) -> Any:
    data = atomic.read(path, bytes_max=_FILE_BYTES_MAX)
    if data is None:
        raise _damaged(path, "it is missing")
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, f"it cannot be read: {error}") from error


def _damaged(path: Path, what: str) -> StorageCorruptError:
    return StorageCorruptError(
        f"authority is damaged, {what}",
        where=str(path),
        remedy="restore the folder from a backup; a new root means enrolling everyone again",
    )
