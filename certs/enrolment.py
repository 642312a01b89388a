"""The rules of enrolment, without sockets: who gets an SVID, for what proof.

The ID of a first SVID is that of the join token, of the key whose fingerprint an operator has
admitted, or of the chip; a renewal's is the TLS peer's. What a CSR says can only agree. An entry
with a selector `tpm:` is given to its chip alone, at every renewal anew.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plantroom.certs import attest_message, bundle, request, svid, window
from plantroom.certs.attest_store import KEY
from plantroom.certs.attestation import Attestation, is_attested
from plantroom.certs.authority import Authority
from plantroom.certs.entry import Entry, Issued
from plantroom.certs.own_svid import read_svid
from plantroom.certs.registry import Registry, check_claims
from plantroom.certs.request import Requested
from plantroom.wire import tls
from plantroom.wire.clock import Clock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, Principal, TrustBundle
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.certs.enrolment")
TOKEN_CHARACTERS_MAX = 256
NOT_ADMITTED = "not-admitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the asker gets: its chain, and the bundles of every trust domain known here."""

    issued: Issued
    chain_pem: bytes
    bundles: Mapping[str, TrustBundle]
    late_s: float = 0.0

    def to_json(self) -> bytes:
        """Return the answer's body."""
        own = self.bundles[self.issued.spiffe_id.trust_domain]
        table = {
            "spiffe_id": str(self.issued.spiffe_id),
            "chain": self.chain_pem.decode(),
            "bundles": {name: bundle.to_jwks(part) for name, part in self.bundles.items()},
            "refresh_s": own.refresh_hint_s,
        }
        return json.dumps(table).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A verified TLS peer of the enrolment port, and for how long its SVID has been expired.

    Below 0: in how many seconds it begins.
    """

    principal: Principal
    late_s: float


class Enrolment:
    """Decides and issues; called from one worker thread, because it writes the registry.

    `bundles`: gives the bundles of the other trust domains. `late_s_max`: how long ago an SVID may
    have expired and still renew; 0 turns that off. `attestation`: of chips, and of keys that were
    admitted by their fingerprint; None: join tokens alone.
    """

    def __init__(  # noqa: PLR0913 -- parts and limits are given by keyword
        self,
        authority: Authority,
        registry: Registry,
        *,
        bundles: Callable[[], Mapping[str, TrustBundle]],
        clock: Clock,
        late_s_max: int = window.LATE_S_MAX,
        attestation: Attestation | None = None,
    ) -> None:
        self._authority = authority
        self._registry = registry
        self._attestation = attestation
        self._bundles = bundles
        self._clock = clock
        self._late_s_max = late_s_max

    def admit(self, connection: Any, identity: Identity) -> Peer:
        """Return who the peer of a handshake is that did not look at times.

        Raises:
            IdentityError: with the rule that is broken as `reason`.
        """
        principal = svid.verify_peer(connection, identity)
        chain = [svid.load(part) for part in tls.verified_chain_der(connection)]
        late_s = window.check_times(
            chain, now_s=self._clock.wall_us() / 1e6, late_s_max=self._late_s_max
        )
        return Peer(principal=principal, late_s=late_s)

    def enrol(self, body: bytes, *, peer: str = "") -> Grant:
        """Answer `POST /enrol {token, csr}`, or `{csr}` for a key that an operator admits.

        Raises:
            IdentityError: with the reason; `not-admitted` for a key that still waits.
        """
        table = _table(body, "csr")
        token = table.get("token", "")
        if not isinstance(token, str):
            raise IdentityError("token is not text", reason="bad-request")
        csr = request.read(table["csr"].encode())  # first: a bad CSR must not cost the token
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise IdentityError("join token is not known", reason="token-unknown")
        if token or self._attestation is None:
            spiffe_id = self._registry.redeem(
                token, key_hash=request.key_hash(csr.key), claims=csr.claims
            )
        else:
            spiffe_id = self._admitted(self._attestation, csr, peer)
        entry = self._registry.admitted(spiffe_id)
        _check_not_attested(entry)
        return self._issue(entry, csr.key, 0.0)

    def _admitted(self, attestation: Attestation, csr: Requested, peer: str) -> SpiffeId:
        fingerprint, store = request.key_hash(csr.key).hex(), attestation.store
        spiffe_id = store.admitted(fingerprint)
        if spiffe_id is None:
            claim = min(csr.claims, default="")
            store.wait(fingerprint, KEY, claim=claim, peer=peer)
            raise IdentityError("this key waits to be admitted", reason=NOT_ADMITTED, where=claim)
        check_claims(csr.claims, spiffe_id)
        return spiffe_id

    def challenge(self, body: bytes, *, peer: str) -> bytes:
        """Answer `POST /attest {ek_certificate, ek_public, ak_public}` with a challenge.

        Raises:
            IdentityError: with the reason.
        """
        claim = attest_message.read_claim(_table(body))
        return attest_message.challenge_json(self._attests().challenge(claim, peer=peer))

    def attested(self, body: bytes) -> Grant:
        """Answer `POST /attested {nonce, secret, quote, signature, pcrs, csr}`.

        Raises:
            IdentityError: with the reason.
        """
        proof = attest_message.read_proof(_table(body, "csr"))
        csr = request.read(proof.csr)  # first: a bad CSR must not cost the challenge
        return self._issue(self._attests().judge(proof, claims=csr.claims), csr.key, 0.0)

    def _attests(self) -> Attestation:
        if self._attestation is None:
            raise IdentityError("chips are not attested here", reason="not-found")
        return self._attestation

    def renew(self, peer: Peer, body: bytes) -> Grant:
        """Answer `POST /renew {csr}`; the ID is the peer's, and the CSR names it or none.

        Raises:
            IdentityError: with the reason.
        """
        csr = request.read(_table(body, "csr")["csr"].encode())
        principal = peer.principal
        check_claims(csr.claims, principal.spiffe_id)
        entry = self._registry.admitted(principal.spiffe_id, serial=principal.serial)
        _check_not_attested(entry)
        if peer.late_s:
            text = "late renewal id=%s serial=%s expired_for_s=%d"
            if peer.late_s < 0:
                text = "early renewal id=%s serial=%s, clocks were ahead: expired_for_s=%d"
            LOG.warning(text, principal.spiffe_id, principal.serial, peer.late_s)
        return self._issue(entry, csr.key, peer.late_s)

    def _issue(self, entry: Entry, key: Any, late_s: float) -> Grant:
        chain = self._authority.issue(
            entry.spiffe_id, key, ttl_s=entry.ttl_s, dns=entry.dns, ips=entry.ips
        )
        made = read_svid(chain, b"")
        issued = Issued(
            spiffe_id=made.spiffe_id,
            serial=made.serial,
            at_us=self._clock.wall_us(),
            not_after_s=made.not_after_s,
        )
        self._registry.record_issued(issued)
        own = self._authority.bundle()
        bundles = {**self._bundles(), own.trust_domain: own}
        return Grant(issued=issued, chain_pem=chain, bundles=bundles, late_s=late_s)


def _check_not_attested(entry: Entry) -> None:
    if is_attested(entry):
        raise IdentityError(
            "this identity is its chip's: token, key and SVID are not enough",
            reason="attestation-needed",
            where=str(entry.spiffe_id),
            remedy='set identity.attestor to "tpm" on the device',
        )


def _table(body: bytes, *names: str) -> dict[str, Any]:
    try:
        table = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise IdentityError("body is not JSON", reason="bad-request") from error
    if not isinstance(table, dict) or not all(isinstance(table.get(n), str) for n in names):
        raise IdentityError(f"body is not a map with {', '.join(names)}", reason="bad-request")
    return table
