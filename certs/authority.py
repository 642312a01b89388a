"""The embedded issuer: the roots of one trust domain, kept on disk, that sign short-lived SVIDs.

What the folder holds is told in `authority_manifest` and `authority_root`. `authority_rotation`
changes it, also while this runs: every signature is made by the root that is active then.
Source: SPIFFE X509-SVID sections 3 and 4.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import atomic, authority_manifest, authority_root, certificates
from plantroom.certs.authority_manifest import MANIFEST, Manifest, RootRecord
from plantroom.certs.authority_root import Root
from plantroom.certs.entry import SVID_TTL_S_MAX, SVID_TTL_S_MIN
from plantroom.wire.clock import Clock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId

_UNTIL_STEP_S = 60  # how coarsely it is kept until when a root's signatures are valid


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """The manifest with its files, and what the manifest's file looked like."""

    manifest: Manifest
    roots: tuple[Root, ...]
    active: Root
    key: ec.EllipticCurvePrivateKey
    seen: tuple[int, int, int]


class Authority:
    """Issues SVIDs of one trust domain; make one with `open`. May be called from any thread."""

    def __init__(self, folder: Path, loaded: _Loaded, *, clock: Clock) -> None:
        self.trust_domain = loaded.manifest.trust_domain
        self._folder = folder
        self._loaded = loaded
        self._clock = clock

    @classmethod
    def open(cls, folder: Path, trust_domain: str, *, clock: Clock) -> "Authority":
        """Open the authority in this folder, or make it with a new root.

        Raises:
            StorageError: when the folder cannot be read or written, or is damaged.
            IdentityError: when it is another trust domain's, or a key is readable by others.
        """
        now_s = clock.wall_us() // 1_000_000
        with authority_manifest.locked(folder):
            if authority_manifest.read(folder, now_s=now_s) is None:
                _create(folder, trust_domain, now_s)
            return cls(folder, _load(folder, trust_domain, now_s), clock=clock)

    def refresh(self) -> None:
        """Take in what a command has changed in the folder.

        Raises:
            StorageError: when it cannot be read; then everything stays as it was.
        """
        if _look(self._folder) != self._loaded.seen:
            with authority_manifest.locked(self._folder):
                self._loaded = _load(self._folder, self.trust_domain, self._now_s())

    @property
    def generation(self) -> tuple[int, str]:
        """The bundle's sequence and the active root: other values say that a root has changed."""
        manifest = self._loaded.manifest
        return manifest.sequence, manifest.active

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
        now_s = self._now_s()
        loaded = self._signing_until(now_s + ttl_s, now_s)
        root = loaded.active
        if now_s >= root.not_after_s:
            raise IdentityError("root has expired", reason="root-expired", where=self.trust_domain)
        leaf = certificates.svid(
            order,
            issuer=root.certificate,
            key=loaded.key,
            now_s=now_s,
            not_after_s=root.not_after_s,
        )
        return leaf.public_bytes(serialization.Encoding.PEM) + authority_root.pem(root.shown)

    def sign(self, data: bytes) -> bytes:
        """Sign with the active root's key; `data` begins with what it is (never a certificate)."""
        self.refresh()
        return self._loaded.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def vouchers(self) -> tuple[bytes, ...]:
        """Return the certificates (DER) that lead from the signing key to a root of the bundle."""
        shown = self._loaded.active.shown
        return tuple(each.public_bytes(serialization.Encoding.DER) for each in shown)

    def bundle(self) -> TrustBundle:
        """Return the roots that this trust domain's SVIDs chain to."""
        loaded = self._loaded
        der = (each.anchor.public_bytes(serialization.Encoding.DER) for each in loaded.roots)
        return TrustBundle(
            trust_domain=self.trust_domain,
            roots_der=tuple(dict.fromkeys(der)),
            sequence=loaded.manifest.sequence,
        )

    def root_sha256(self) -> str:
        """Return the SHA-256 of the root that signs now: it pins the bundle for a new device."""
        self.refresh()
        return self._loaded.active.anchor.fingerprint(hashes.SHA256()).hex()

    def _now_s(self) -> int:
        return self._clock.wall_us() // 1_000_000

    def _signing_until(self, until_s: int, now_s: int) -> _Loaded:
        """Return what signs now, having kept that something it signs is valid until then.

        So that a root is not retired while an SVID of its still lives.
        """
        self.refresh()
        manifest = self._loaded.manifest
        if manifest.root(manifest.active).until_s >= until_s:
            return self._loaded
        with authority_manifest.locked(self._folder):
            manifest = authority_manifest.of_domain(self._folder, self.trust_domain, now_s=now_s)
            mark_s = until_s + _UNTIL_STEP_S - until_s % _UNTIL_STEP_S
            record = replace(manifest.root(manifest.active), until_s=mark_s)
            authority_manifest.write(self._folder, manifest.with_root(record))
            self._loaded = _load(self._folder, self.trust_domain, now_s)
            return self._loaded


def _create(folder: Path, trust_domain: str, now_s: int) -> None:
    key = certificates.new_key()
    root = certificates.self_signed(trust_domain, key, now_s=now_s)
    name = "root-1"
    atomic.write(authority_root.key_file(folder, name), certificates.key_pem(key))
    file = authority_root.certificate_file(folder, name)
    atomic.write(file, authority_root.pem((root,)), mode=atomic.PUBLIC)
    record = RootRecord(name=name, prepared_s=now_s, activated_s=now_s)
    manifest = Manifest(trust_domain=trust_domain, active=name, sequence=1, roots=(record,))
    authority_manifest.write(folder, manifest)


def _load(folder: Path, trust_domain: str, now_s: int) -> _Loaded:
    """Read manifest, certificates and the active key; under the lock, so all of one moment."""
    seen = _look(folder)
    manifest = authority_manifest.of_domain(folder, trust_domain, now_s=now_s)
    crossed = manifest.in_state("old") is not None
    roots = tuple(
        authority_root.load(folder, record.name, crossed=crossed and record.name == manifest.active)
        for record in manifest.roots
    )
    active = next(root for root in roots if root.name == manifest.active)
    key = authority_root.load_key(folder, manifest.root(active.name), active)
    return _Loaded(manifest=manifest, roots=roots, active=active, key=key, seen=seen)


def _look(folder: Path) -> tuple[int, int, int]:
    with atomic.translated(folder / MANIFEST):
        found = os.stat(folder / MANIFEST)  # noqa: PTH116 -- at every signature
    return found.st_ino, found.st_size, found.st_mtime_ns
