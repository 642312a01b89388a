"""The rules of enrolment, without sockets: who gets an SVID, for what proof.

A join token names the ID of a first SVID; a renewal's ID is the TLS peer's. Nothing in a CSR but
its key counts.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plantroom.certs import bundle, request, svid, window
from plantroom.certs.authority import Authority
from plantroom.certs.entry import Entry, Issued
from plantroom.certs.own_svid import read_svid
from plantroom.certs.registry import Registry
from plantroom.wire import tls
from plantroom.wire.clock import Clock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, Principal, TrustBundle

LOG = logging.getLogger("plantroom.certs.enrolment")
TOKEN_CHARACTERS_MAX = 256


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
    """A verified TLS peer of the enrolment port, and for how long its SVID has been expired."""

    principal: Principal
    late_s: float


class Enrolment:
    """Decides and issues; called from one worker thread, because it writes the registry.

    `bundles`: gives the bundles of the other trust domains. `late_s_max`: how long ago an SVID may
    have expired and still renew; 0 turns that off.
    """

    def __init__(
        self,
        authority: Authority,
        registry: Registry,
        *,
        bundles: Callable[[], Mapping[str, TrustBundle]],
        clock: Clock,
        late_s_max: int = window.LATE_S_MAX,
    ) -> None:
        self._authority = authority
        self._registry = registry
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

    def enrol(self, body: bytes) -> Grant:
        """Answer `POST /enrol {token, csr}`.

        Raises:
            IdentityError: with the reason.
        """
        table = _table(body, "token", "csr")
        key = request.public_key(table["csr"].encode())  # first: a bad CSR must not cost the token
        if len(table["token"]) > TOKEN_CHARACTERS_MAX:
            raise IdentityError("join token is not known", reason="token-unknown")
        spiffe_id = self._registry.redeem(table["token"], key_hash=request.key_hash(key))
        return self._issue(self._registry.admitted(spiffe_id), key, 0.0)

    def renew(self, peer: Peer, body: bytes) -> Grant:
        """Answer `POST /renew {csr}`; the ID is the peer's, whatever the CSR says.

        Raises:
            IdentityError: with the reason.
        """
        table = _table(body, "csr")
        key = request.public_key(table["csr"].encode())
        principal = peer.principal
        entry = self._registry.admitted(principal.spiffe_id, serial=principal.serial)
        if peer.late_s:
            LOG.warning(
                "late renewal id=%s serial=%s expired_for_s=%d",
                principal.spiffe_id,
                principal.serial,
                peer.late_s,
            )
        return self._issue(entry, key, peer.late_s)

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


def _table(body: bytes, *names: str) -> dict[str, str]:
    try:
        table = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise IdentityError("body is not JSON", reason="bad-request") from error
    if not isinstance(table, dict) or not all(isinstance(table.get(n), str) for n in names):
        raise IdentityError(f"body is not a map with {', '.join(names)}", reason="bad-request")
    return table
