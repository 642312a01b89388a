"""Attestation by TPM 2.0, the issuer's side, without sockets: whose chip it is, and how it started.

First the chip's keys are checked, and a secret is sealed to them; then the secret, a quote and
the CSR come back. The quote is over SHA-256(nonce, CSR), so both belong to one device, now.
"""

import contextlib
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from plantroom.certs import tpm_check, tpm_wire
from plantroom.certs.attest_message import Challenge, Claim, Proof
from plantroom.certs.attest_store import EK, AttestStore
from plantroom.certs.entry import Entry
from plantroom.certs.registry import Registry, check_claims
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError, IdentityError

SELECTOR: Final = "tpm:"
PUB_HASH, MAKER, GOLDEN = "tpm:pub_hash:", "tpm:manufacturer:", "tpm:golden:"
CHALLENGE_S: Final = 60
CHALLENGES_MAX: Final = 1024
DEFAULT_PCRS: Final = tuple(range(8))


@dataclass(slots=True, kw_only=True)
class _Pending:
    """A challenge that was given out; used up by its first answer, right or wrong."""

    until_us: int
    fingerprint: str
    maker: str
    ak_public: bytes
    secret: bytes
    used: bool = False


class Attestation:
    """Challenges chips and judges their answers; called from one thread.

    `authorities`: the certificates that may sign an EK's.
    """

    def __init__(
        self,
        registry: Registry,
        store: AttestStore,
        *,
        clock: Clock,
        authorities: Sequence[x509.Certificate] = (),
        pcrs: Sequence[int] = DEFAULT_PCRS,
    ) -> None:
        self._registry = registry
        self.store = store
        self._clock = clock
        self._authorities = tuple(authorities)
        self._pcrs = tuple(sorted(set(pcrs)))
        self._pending: OrderedDict[bytes, _Pending] = OrderedDict()

    def challenge(self, claim: Claim, *, peer: str) -> Challenge:
        """Check a chip's keys, and seal a secret to them.

        Raises:
            IdentityError: with the reason; `busy` when too many challenges are open.
        """
        ek = tpm_check.endorsement_key(claim.ek_public)
        fingerprint = tpm_check.spki_hash(ek)
        maker = self._maker(claim.certificate, ek, fingerprint)
        tpm_check.attestation_key(claim.ak_public)
        if not self.store.ids_of_ek(fingerprint):
            self.store.wait(fingerprint, EK, claim="", peer=peer)
            raise IdentityError(
                "no entry has this chip's selector",
                reason="no-entry",
                where=PUB_HASH + fingerprint,
                remedy="plantroom identity entry create SPIFFE_ID --selector "
                f"{PUB_HASH}{fingerprint}",
            )
        return self._sealed(claim, fingerprint, maker)

    def _maker(self, certificate: bytes, ek: tpm_check.Key, fingerprint: str) -> str:
        allowed = self.store.ek_allowed(fingerprint)
        if not certificate:
            if allowed:
                return ""
            raise IdentityError(
                "EK has no certificate, and is not among those that are allowed",
                reason="ek-unknown",
                where=fingerprint,
                remedy=f"plantroom identity ek allow {fingerprint}",
            )
        now_s = self._clock.wall_us() / 1e6
        try:
            return tpm_check.check_certificate(certificate, ek, self._authorities, now_s=now_s)
        except IdentityError as error:
            if allowed and error.reason in {"ek-ca-unknown", "ek-expired"}:
                return ""
            raise IdentityError(error.what, reason=error.reason, where=fingerprint) from error

    def _sealed(self, claim: Claim, fingerprint: str, maker: str) -> Challenge:
        now_us = self._clock.monotonic_us()
        self._forget(now_us, fingerprint)
        nonce, secret = secrets.token_bytes(32), secrets.token_bytes(32)
        ak_name = tpm_wire.name_of(claim.ak_public)
        credential, seed = tpm_check.make_credential(claim.ek_public, ak_name, secret)
        self._pending[nonce] = _Pending(
            until_us=now_us + CHALLENGE_S * 1_000_000,
            fingerprint=fingerprint,
            maker=maker,
            ak_public=claim.ak_public,
            secret=secret,
        )
        return Challenge(nonce=nonce, credential=credential, seed=seed, pcrs=self._pcrs)

    def _forget(self, now_us: int, fingerprint: str) -> None:
        """Drop what has expired, and an older open challenge of the same chip."""
        for nonce, one in list(self._pending.items()):
            superseded = one.fingerprint == fingerprint and not one.used
            if superseded or not 0 <= one.until_us - now_us <= CHALLENGE_S * 1_000_000:
                del self._pending[nonce]
        while len(self._pending) >= CHALLENGES_MAX:
            used = next((nonce for nonce, one in self._pending.items() if one.used), None)
            if used is None:
                raise IdentityError("too many attestations are under way", reason="busy")
            del self._pending[used]

    def judge(self, proof: Proof, *, claims: frozenset[str]) -> Entry:
        """Return the entry of the device whose chip gave this answer.

        `claims`: the IDs in the CSR, which may only agree.

        Raises:
            IdentityError: with the reason.
        """
        pending = self._take(proof.nonce)
        if not hmac.compare_digest(pending.secret, proof.secret):
            raise IdentityError(
                "secret is not the one that was sealed to this EK and this AK's name",
                reason="ak-name",
                where=pending.fingerprint,
            )
        try:
            tpm_check.check_quote(
                tpm_check.attestation_key(pending.ak_public),
                proof.quote,
                proof.signature,
                extra=hashlib.sha256(proof.nonce + proof.csr).digest(),
                pcrs=proof.pcrs,
            )
            if tuple(sorted(proof.pcrs)) != self._pcrs:
                raise IdentityError("other registers were asked for", reason="quote-pcrs")
        except IdentityError as error:
            where = pending.fingerprint
            raise IdentityError(error.what, reason=error.reason, where=where) from error
        entry = self._entry(pending, claims)
        self.store.check_pcrs(entry.spiffe_id, golden_of(entry), proof.pcrs)
        return entry

    def _take(self, nonce: bytes) -> _Pending:
        pending = self._pending.get(nonce)
        if pending is None:
            raise IdentityError("nonce is not known", reason="nonce-unknown")
        where = pending.fingerprint
        if pending.used:
            raise IdentityError("nonce has been used", reason="nonce-used", where=where)
        pending.used = True
        if self._clock.monotonic_us() > pending.until_us:
            raise IdentityError("nonce has expired", reason="nonce-expired", where=where)
        return pending

    def _entry(self, pending: _Pending, claims: frozenset[str]) -> Entry:
        """Choose among the entries of this chip: the CSR's ID where there are several."""
        ids = self.store.ids_of_ek(pending.fingerprint)
        wanted = next((one for one in ids if str(one) in claims), ids[0] if ids else None)
        if wanted is None:
            where = PUB_HASH + pending.fingerprint
            raise IdentityError("no entry has this chip's selector", reason="no-entry", where=where)
        check_claims(claims, wanted)
        entry = self._registry.admitted(wanted)
        shown = {PUB_HASH + pending.fingerprint, MAKER + pending.maker}
        needed = {one for one in entry.selectors if one.startswith(SELECTOR) and GOLDEN not in one}
        if not needed <= shown:
            raise IdentityError(
                f"chip does not show {', '.join(sorted(needed - shown))[:200]}",
                reason="selector",
                where=str(entry.spiffe_id),
            )
        return entry


def is_attested(entry: Entry) -> bool:
    """Say whether this entry's identity is given to its chip alone."""
    return any(one.startswith(SELECTOR) for one in entry.selectors)


def golden_of(entry: Entry) -> str | None:
    """Return the golden set that an entry names."""
    names = (one.removeprefix(GOLDEN) for one in entry.selectors if one.startswith(GOLDEN))
    return next(names, None)


@contextlib.contextmanager
def opened(
    registry: Registry, *, ca_file: str, pcrs: Sequence[int], clock: Clock
) -> Iterator[Attestation]:
    """Open attestation beside a registry, as the settings say it.

    Raises:
        ConfigError: when the CA file or a register's number cannot be used.
        StorageError: when the registry's file cannot be used.
    """
    if not pcrs or not set(pcrs) <= set(tpm_wire.PCRS):
        raise ConfigError("identity.tpm_pcrs are not numbers from 0 to 23", where=str(list(pcrs)))
    authorities = load_authorities(Path(ca_file)) if ca_file else ()
    with contextlib.closing(AttestStore(registry.path, clock=clock)) as store:
        yield Attestation(registry, store, clock=clock, authorities=authorities, pcrs=pcrs)


def load_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """Read the certificates that may sign an EK's: PEM, intermediates as well.

    Raises:
        ConfigError: when the file cannot be read or has none.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"identity.tpm_ca_file cannot be read: {error}",
            where=str(path),
            remedy="give the PEM certificates of the chips' makers, intermediates as well",
        ) from error
