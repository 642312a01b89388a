"""TLS as everything here speaks it: 1.3 only, mutual, no tickets, pinned to one trust domain.

OpenSSL checks the chain; which SPIFFE ID the peer has, and that its chain ends in a root of that
ID's own trust domain, is checked here (SPIFFE X509-SVID 5; one pooled store would let one domain's
CA impersonate another). The full list of X.509-SVID rules is checked where `cryptography` may be
loaded: `plantroom.certs.svid`.
"""

import os
import ssl
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from plantroom.wire.errors import IdentityError, SpiffeIdError
from plantroom.wire.identity import Identity, Svid
from plantroom.wire.spiffe import SpiffeId

PeerCheck = Callable[[Any], object]


def load_svid(context: ssl.SSLContext, svid: Svid) -> None:
    """Give the context this chain and key; the key touches the disk only in a file of mode 0600."""
    handle, path = tempfile.mkstemp(prefix="svid-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(svid.key_pem + b"\n" + svid.chain_pem)
        context.load_cert_chain(path)
    except ssl.SSLError as error:
        raise IdentityError(
            f"SVID cannot be loaded: {error.reason}", reason="bad-svid", where=str(svid.spiffe_id)
        ) from error
    finally:
        os.unlink(path)  # noqa: PTH108 -- pathlib costs the device memory


def _prepare(context: ssl.SSLContext, identity: Identity, trust_domains: Iterable[str]) -> None:
    context.check_hostname = False  # the SPIFFE ID is the name
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_svid(context, identity.svid)
    for trust_domain in trust_domains:
        bundle = identity.bundles.get(trust_domain)
        if bundle is None:
            raise IdentityError(
                "no bundle for this trust domain", reason="no-bundle", where=trust_domain
            )
        for root in bundle.roots_der:
            context.load_verify_locations(cadata=root)


def server_context(identity: Identity) -> ssl.SSLContext:
    """Make a server context that asks every client for an SVID of a trust domain in the bundles."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, identity, identity.bundles)
    context.num_tickets = 0  # a ticket would outlive the SVID and the root that vouched for it
    return context


def client_context(
    identity: Identity, *, server_ids: Iterable[SpiffeId], check: PeerCheck | None = None
) -> ssl.SSLContext:
    """Make a client context that accepts a server only if it has one of `server_ids`.

    The check runs inside the handshake of every socket made from it, before a byte is sent.
    """
    context = _CheckingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.identity, context.check = identity, check
    context.server_ids = frozenset(server_ids)
    _prepare(context, identity, {server_id.trust_domain for server_id in context.server_ids})
    return context


class _CheckingSocket(ssl.SSLSocket):
    context: "_CheckingContext"

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 -- ssl's own
        try:
            super().do_handshake(block)
            _check_server(self, self.context.identity, self.context.server_ids)
            if self.context.check is not None:
                self.context.check(self)
        except BaseException:
            self.close()  # paho would leave it open
            raise


class _CheckingObject(ssl.SSLObject):
    """The same for asyncio, which has no socket to check; it takes `SSLError` for a refusal."""

    context: "_CheckingContext"

    def do_handshake(self) -> None:
        super().do_handshake()
        try:
            _check_server(self, self.context.identity, self.context.server_ids)
            if self.context.check is not None:
                self.context.check(self)
        except IdentityError as error:
            raise ssl.SSLCertVerificationError(str(error)) from error


class _CheckingContext(ssl.SSLContext):
    """Freed as soon as it is dropped: in no cycle, since every rotation makes a new one."""

    sslsocket_class = _CheckingSocket
    sslobject_class = _CheckingObject
    identity: Identity
    server_ids: frozenset[SpiffeId]
    check: PeerCheck | None


def _check_server(connection: Any, identity: Identity, wanted: frozenset[SpiffeId]) -> None:
    found = peer_id(connection)
    if found not in wanted:
        names = ", ".join(sorted(map(str, wanted)))
        raise IdentityError(f"server is {found}, not {names}", reason="wrong-peer")
    check_anchor(connection, found, identity)


class RotatingServerContext:
    """A listener's context whose SVID and roots are replaced without touching live connections.

    Pass `context` to the listener once; `rotate` swaps what the next handshake gets. (Loading a
    new chain into a context that is in use breaks it when the load fails half way.)
    """

    def __init__(self, identity: Identity) -> None:
        self.context = server_context(identity)
        self._current = self.context
        self.context.sni_callback = self._swap  # called without SNI too

    def rotate(self, identity: Identity) -> None:
        """Serve the next handshake with this identity."""
        self._current = server_context(identity)

    def _swap(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def peer_id(connection: Any) -> SpiffeId:
    """Return the SPIFFE ID of the verified peer: its one URI SAN.

    Raises:
        IdentityError: when there is no certificate, not exactly one URI, or no SPIFFE ID.
    """
    certificate = connection.getpeercert()
    if not certificate:
        raise IdentityError("peer has no certificate", reason="no-certificate")
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if len(uris) != 1:  # SPIFFE X509-SVID 2
        raise IdentityError(f"peer has {len(uris)} URI SANs, one is wanted", reason="uri-san")
    try:
        return SpiffeId.parse(uris[0])
    except SpiffeIdError as error:
        raise IdentityError(str(error), reason="spiffe-id") from error


def verified_chain_der(connection: Any) -> list[bytes]:
    """Return the chain that OpenSSL verified, leaf first, anchor last, as DER."""
    import _ssl  # noqa: PLC0415 -- its public form (Python 3.13) has no names of certificates

    return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in _verified(connection)]


def _verified(connection: Any) -> list[Any]:
    return list(connection._sslobj.get_verified_chain())  # noqa: SLF001


def check_anchor(connection: Any, peer: SpiffeId, identity: Identity) -> None:
    """Refuse a peer whose verified chain does not end in a root of its own trust domain.

    Between the two there may be the authorities of that trust domain, and those that name none:
    another domain's authority under the same root cannot speak for this one.

    Raises:
        IdentityError: with reason `wrong-trust-domain`.
    """
    bundle = identity.bundles.get(peer.trust_domain)
    chain = verified_chain_der(connection)
    if bundle is None or not chain or chain[-1] not in bundle.roots_der:
        raise IdentityError(
            "chain does not end in a root of the ID's own trust domain",
            reason="wrong-trust-domain",
            where=str(peer),
        )
    _check_names(_verified(connection)[1:-1], peer)


def check_signers(connection: Any, peer: SpiffeId) -> None:
    """Refuse a peer whose chain has an authority that names another trust domain, or its root does.

    For whoever has roots without knowing whose they are; with bundles there is `check_anchor`.

    Raises:
        IdentityError: with reason `wrong-trust-domain`.
    """
    _check_names(_verified(connection)[1:], peer)


def _check_names(signers: Iterable[Any], peer: SpiffeId) -> None:
    for signer in signers:
        names = signer.get_info().get("subjectAltName", ())
        domains = {value for kind, value in names if kind == "URI" and value.startswith("spiffe:")}
        if domains - {f"spiffe://{peer.trust_domain}"}:  # SPIFFE X509-SVID 3.2
            raise IdentityError(
                "an authority of another trust domain has signed this ID",
                reason="wrong-trust-domain",
                where=str(peer),
            )
