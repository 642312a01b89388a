"""Change the root of an authority while it is at work: prepare, activate, retire.

A new root is published first and signs later, so that everybody has heard of it; the old one stays
published until nothing that it signed is valid. The order is enforced: what would cut somebody off
is refused unless forced. Every change is one write of the manifest, before or after which a crash
may come. Source: SPIFFE Federation 4.1; SPIFFE Trust Domain and Bundle 4.1.1.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import atomic, authority_hsm, authority_manifest, authority_root, certificates
from plantroom.certs import authority_upstream as upstream
from plantroom.certs.authority_hsm import Place
from plantroom.certs.authority_manifest import Manifest, RootRecord, State
from plantroom.wire.clock import Clock
from plantroom.wire.errors import CheckFailedError, UsageError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.rfc3339 import format_us

SPREAD_S = 3 * TrustBundle(trust_domain="", roots_der=()).refresh_hint_s  # SPIFFE Federation 4.1
CSR_FILE = "request.csr"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootStatus:
    """What is shown of one root; times are seconds since 1970, 0 for not yet."""

    name: str
    state: State
    kind: str
    sha256: str
    not_after_s: int
    prepared_s: int
    ready_s: int
    activated_s: int
    until_s: int


class Rotation:
    """The steps, each for the authority in `folder`."""

    def __init__(self, folder: Path, trust_domain: str, *, clock: Clock) -> None:
        self._folder = folder
        self._trust_domain = trust_domain
        self._clock = clock

    def status(self) -> tuple[int, list[RootStatus]]:
        """Return the bundle's sequence, and its roots in the order in which they came."""
        manifest = self._manifest()
        return manifest.sequence, [self._status(manifest, record) for record in manifest.roots]

    def prepare(self, place: Place | None = None) -> str:
        """Publish a new self-signed root, its key in a file or (`place`) made in an HSM.

        Raises:
            UsageError: when another root is prepared, or an old one not retired yet.
        """
        with authority_manifest.locked(self._folder):
            manifest = self._ready_for_another()
            record = RootRecord(name=self._next_name(manifest), hsm=_table(place))
            key = self._new_key(record.name, place)
            root = certificates.self_signed(self._trust_domain, key, now_s=self._now_s())
            return self._publish(manifest, record, (root,))

    def request(self, place: Place | None = None) -> bytes:
        """Make a key and return the CSR (PEM) that an upstream CA shall sign; again: the same.

        Raises:
            UsageError: as `prepare` does.
        """
        with authority_manifest.locked(self._folder):
            manifest = self._ready_for_another()
            csr = atomic.read(self._folder / CSR_FILE, bytes_max=authority_manifest.FILE_BYTES_MAX)
            if manifest.requested and csr is not None:
                return csr
            name = self._next_name(manifest)
            key = self._new_key(name, place)
            made = certificates.request(self._trust_domain, key)
            csr = made.public_bytes(serialization.Encoding.PEM)
            atomic.write(self._folder / CSR_FILE, csr, mode=atomic.PUBLIC)
            requested = RootRecord(name=name, hsm=_table(place))
            authority_manifest.write(self._folder, replace(manifest, requested=requested))
            return csr

    def prepare_signed(self, chain_pem: bytes, key_pem: bytes | None = None) -> str:
        """Publish the root above a chain (PEM, our certificate first, the root last).

        `key_pem` comes with it, or is that of `request`.

        Raises:
            UsageError: when nothing was requested and no key is given, or as `prepare` does.
            IdentityError: with reason `upstream`, naming the rule that the chain breaks.
        """
        with authority_manifest.locked(self._folder):
            manifest = self._ready_for_another()
            chain = upstream.parse_chain(chain_pem)
            key = None if key_pem is None else upstream.parse_key(key_pem)
            public = self._requested_key(manifest) if key is None else key.public_key()
            upstream.check_chain(chain, public, self._trust_domain, self._now_s())
            if key is None and manifest.requested is not None:
                return self._publish(manifest, manifest.requested, chain)
            record = RootRecord(name=self._next_name(manifest))
            if key is not None:
                file = authority_root.key_file(self._folder, record.name)
                atomic.write(file, certificates.key_pem(key))
            return self._publish(manifest, record, chain)

    def activate(self, *, force: bool = False) -> str:
        """Let the prepared root sign from now on.

        Raises:
            UsageError: when none is prepared.
            CheckFailedError: when its bundle has not had the time to spread, unless forced.
            StorageCorruptError: when its key is not there.
        """
        with authority_manifest.locked(self._folder):
            manifest, now_s = self._manifest(), self._now_s()
            record = manifest.in_state("prepared")
            if record is None:
                raise _wrong_step("no root is prepared", "plantroom identity authority prepare")
            if now_s < record.ready_s and not force:
                raise CheckFailedError(
                    "not everybody can have heard of the new root yet",
                    where=self._trust_domain,
                    remedy=f"wait until {format_us(record.ready_s * 1_000_000)}, or say --force",
                )
            root = authority_root.load(self._folder, record.name, crossed=False)
            authority_root.load_key(self._folder, record, root)  # before, not after
            changed = replace(record, activated_s=now_s)
            authority_manifest.write(
                self._folder,
                replace(
                    manifest.with_root(changed),
                    active=record.name,
                    sequence=manifest.sequence + 1,  # who hears of it renews with the new root
                ),
            )
            return record.name

    def retire(self, *, force: bool = False) -> str:
        """Drop the old root from the bundle, and its key from this machine (not from an HSM).

        A root that is prepared and was never active is dropped if there is no old one.

        Raises:
            UsageError: when there is none.
            CheckFailedError: when something that it signed is still valid, unless forced.
        """
        with authority_manifest.locked(self._folder):
            manifest = self._manifest()
            record = manifest.in_state("old") or manifest.in_state("prepared")
            if record is None:
                raise _wrong_step(
                    "there is no old root, and the active one cannot go",
                    "prepare and activate another",
                )
            if self._now_s() < record.until_s and not force:
                raise CheckFailedError(
                    "SVIDs of the old root are still valid",
                    where=self._trust_domain,
                    remedy=f"wait until {format_us(record.until_s * 1_000_000)}, or say --force"
                    " to cut their owners off",
                )
            others = tuple(root for root in manifest.roots if root.name != record.name)
            authority_manifest.write(
                self._folder, replace(manifest, roots=others, sequence=manifest.sequence + 1)
            )
            self._sweep(self._manifest())
            return record.name

    def _publish(
        self, manifest: Manifest, record: RootRecord, chain: tuple[x509.Certificate, ...]
    ) -> str:
        file = authority_root.certificate_file(self._folder, record.name)
        atomic.write(file, authority_root.pem(chain), mode=atomic.PUBLIC)
        crossed = len(chain) == 1 and self._cross(manifest, record.name, chain[0])
        now_s = self._now_s()
        ready_s = now_s + SPREAD_S
        if not crossed:  # then it helps only to have heard, which every SVID's renewal brings
            ready_s = max(ready_s, manifest.root(manifest.active).until_s)
        added = manifest.with_root(replace(record, prepared_s=now_s, ready_s=ready_s))
        changed = replace(added, sequence=manifest.sequence + 1, requested=None)
        authority_manifest.write(self._folder, changed)
        atomic.remove(self._folder / CSR_FILE)
        return record.name

    def _cross(self, manifest: Manifest, name: str, new: x509.Certificate) -> bool:
        """Let the active root vouch for the new one, for those who were away meanwhile."""
        active = authority_root.load(self._folder, manifest.active, crossed=False)
        constraints = active.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        if constraints.value.path_length == 0:
            return False  # its CA allows no certificate between it and an SVID
        key = authority_root.load_key(self._folder, manifest.root(manifest.active), active)
        cross = certificates.crossed(new, issuer=active.certificate, key=key, now_s=self._now_s())
        file = authority_root.cross_file(self._folder, name)
        shown = active.shown if active.is_upstream else ()
        atomic.write(file, authority_root.pem((cross, *shown)), mode=atomic.PUBLIC)
        return True

    def _manifest(self) -> Manifest:
        return authority_manifest.of_domain(self._folder, self._trust_domain, now_s=self._now_s())

    def _ready_for_another(self) -> Manifest:
        manifest = self._manifest()
        if found := manifest.in_state("prepared"):
            raise _wrong_step(
                f"another root is prepared already ({found.name})", "activate it, or retire it"
            )
        if found := manifest.in_state("old"):
            raise _wrong_step(
                f"the old root is still in the bundle ({found.name})", "retire it first"
            )
        self._sweep(manifest)
        return manifest

    def _sweep(self, manifest: Manifest) -> None:
        """Remove files of no root: of a step that was killed, or of a root that is retired."""
        kept = (*manifest.roots, *([manifest.requested] if manifest.requested else ()))
        names = {root.name for root in kept}
        for file in sorted(self._folder.glob("root-*")):
            if file.name.partition(".")[0] not in names:
                atomic.remove(file)
        active = authority_root.cross_file(self._folder, manifest.active)
        if manifest.in_state("old") is None and active.exists():
            atomic.remove(active)

    def _next_name(self, manifest: Manifest) -> str:
        numbers = [int(root.name.removeprefix("root-")) for root in manifest.roots]
        return f"root-{max(numbers) + 1}"

    def _new_key(self, name: str, place: Place | None) -> ec.EllipticCurvePrivateKey:
        if place is not None:
            return authority_hsm.generate(place)
        key = certificates.new_key()
        atomic.write(authority_root.key_file(self._folder, name), certificates.key_pem(key))
        return key

    def _requested_key(self, manifest: Manifest) -> ec.EllipticCurvePublicKey:
        data = atomic.read(self._folder / CSR_FILE, bytes_max=authority_manifest.FILE_BYTES_MAX)
        if manifest.requested is None or data is None:
            raise _wrong_step(
                "there is no key for this certificate",
                "plantroom identity authority request first, or give --key",
            )
        return upstream.parse_request(data)

    def _status(self, manifest: Manifest, record: RootRecord) -> RootStatus:
        root = authority_root.load(self._folder, record.name, crossed=False)
        kind = "upstream" if root.is_upstream else "self-signed"
        return RootStatus(
            name=record.name,
            state=manifest.state(record.name),
            kind=f"{kind}, HSM" if record.hsm else kind,
            sha256=upstream.fingerprint(root.anchor),
            not_after_s=root.not_after_s,
            prepared_s=record.prepared_s,
            ready_s=record.ready_s,
            activated_s=record.activated_s,
            until_s=record.until_s,
        )

    def _now_s(self) -> int:
        return self._clock.wall_us() // 1_000_000


def _table(place: Place | None) -> dict[str, str]:
    return {} if place is None else asdict(place)


def _wrong_step(what: str, remedy: str) -> UsageError:
    return UsageError(what, remedy=remedy)
