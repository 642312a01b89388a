"""The rules of X.509-SVIDs, checked on every peer after OpenSSL has verified its chain.

OpenSSL accepts two URI SANs, an ID without a path, and a leaf that may sign others; SPIFFE does
not. Source: SPIFFE X509-SVID sections 2, 3, 4 and 5.2.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from plantroom.certs import der, own_svid, pem
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError, SpiffeIdError
from plantroom.wire.identity import Identity, Principal, Svid
from plantroom.wire.spiffe import SpiffeId

E = TypeVar("E", bound=x509.ExtensionType)
_USES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


def verify_peer(connection: Any, identity: Identity) -> Principal:
    """Return who the peer of a finished TLS handshake is.

    `connection` is an `ssl.SSLSocket` or `ssl.SSLObject` (asyncio's `ssl_object`).

    Raises:
        IdentityError: with the rule that is broken as `reason`, a word for the audit.
    """
    if not connection.getpeercert(binary_form=True):
        raise IdentityError("peer has no certificate", reason="no-certificate")
    leaf = load(tls.verified_chain_der(connection)[0])
    spiffe_id = check_leaf(leaf)
    tls.check_anchor(connection, spiffe_id, identity)
    return Principal(
        spiffe_id=spiffe_id,
        serial=der.serial_text(leaf.serial_number),
        not_after_s=int(leaf.not_valid_after_utc.timestamp()),
    )


def parse_svid(chain_pem: bytes, key_pem: bytes) -> Svid:
    """Build an SVID from PEM, checked by every rule that a peer would check it by.

    Raises:
        IdentityError: with the rule that is broken as `reason`.
    """
    made = own_svid.read_svid(chain_pem, key_pem)
    check_leaf(load(pem.decode(pem.CERTIFICATE, chain_pem)[0]))
    if not own_svid.key_belongs(made):
        raise IdentityError("key is not this SVID's", reason="bad-key", where=str(made.spiffe_id))
    return made


def chain_of(chain_pem: bytes) -> list[x509.Certificate]:
    """Parse a chain strictly, leaf first.

    Raises:
        IdentityError: with reason `bad-certificate`.
    """
    return [load(part) for part in pem.decode(pem.CERTIFICATE, chain_pem)]


def is_issued_by(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    """Say whether the one has signed the other."""
    try:
        certificate.verify_directly_issued_by(signer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def check_chain(chain_pem: bytes, roots_der: Iterable[bytes]) -> None:
    """Check that an SVID is signed up to one of these roots, whatever the time.

    Raises:
        IdentityError: with the rule that is broken as `reason`.
    """
    chain = chain_of(chain_pem)
    check_leaf(chain[0])
    for signer in chain[1:]:
        signs_for(signer)
    roots = [load(root) for root in roots_der]
    links = all(is_issued_by(one, signer) for one, signer in pairwise(chain))
    if not links or not any(is_issued_by(chain[-1], root) for root in roots):
        raise IdentityError("SVID is not of a root that is known", reason="untrusted")


def signs_for(signer: x509.Certificate) -> set[str]:
    """Return the trust domains that an authority names (SPIFFE X509-SVID 3.2).

    Raises:
        IdentityError: with reason `bad-certificate`, also when it is no authority (4.1, 4.3).
    """
    try:
        constraints = _extension(signer, x509.BasicConstraints)
        usage = _extension(signer, x509.KeyUsage)
        names = _extension(signer, x509.SubjectAlternativeName)
    except (ValueError, x509.DuplicateExtension) as error:
        raise IdentityError(
            f"certificate cannot be read: {error}", reason="bad-certificate"
        ) from error
    if not (constraints and constraints.value.ca and usage and usage.value.key_cert_sign):
        raise IdentityError("it may not sign others", reason="bad-certificate")
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    return {uri.removeprefix("spiffe://") for uri in uris if uri.startswith("spiffe://")}


def load(certificate_der: bytes) -> x509.Certificate:
    """Parse a certificate strictly.

    Raises:
        IdentityError: with reason `bad-certificate`.
    """
    try:
        return x509.load_der_x509_certificate(certificate_der)
    except ValueError as error:
        raise IdentityError(
            f"certificate cannot be read: {error}", reason="bad-certificate"
        ) from error


def check_leaf(leaf: x509.Certificate) -> SpiffeId:
    """Check every rule of a leaf but its chain and its times; return its SPIFFE ID.

    Raises:
        IdentityError: with the rule that is broken as `reason`.
    """
    try:
        spiffe_id = _spiffe_id(leaf)
        _check_basic_constraints(leaf, str(spiffe_id))
        _check_key_usage(leaf, spiffe_id)
        _check_signs_nothing(leaf, str(spiffe_id))
        _check_extended_key_usage(leaf, spiffe_id)
    except (ValueError, x509.DuplicateExtension) as error:
        raise IdentityError(
            f"certificate cannot be read: {error}", reason="bad-certificate"
        ) from error
    return spiffe_id


def check_no_authority(leaf: x509.Certificate) -> None:
    """Check of a leaf only what every peer has to: that it may not sign others (5.2).

    For certificates of strangers' issuers, which may lack what is wanted of our own.

    Raises:
        IdentityError: with the rule that is broken as `reason`.
    """
    try:
        _check_basic_constraints(leaf)
        _check_signs_nothing(leaf)
    except (ValueError, x509.DuplicateExtension) as error:
        raise IdentityError(
            f"certificate cannot be read: {error}", reason="bad-certificate"
        ) from error


def _extension(leaf: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    try:
        return leaf.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _spiffe_id(leaf: x509.Certificate) -> SpiffeId:
    names = _extension(leaf, x509.SubjectAlternativeName)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if len(uris) != 1:  # SPIFFE X509-SVID 2: exactly one URI SAN
        raise IdentityError(f"peer has {len(uris)} URI SANs, one is wanted", reason="uri-san")
    if uris[0].startswith("spiffe://") and "/" not in uris[0].removeprefix("spiffe://"):
        raise IdentityError(  # SPIFFE X509-SVID 3: a leaf's ID has a path
            "SPIFFE ID has no path: it names a trust domain", reason="no-path", where=uris[0][:80]
        )
    try:
        return SpiffeId.parse(uris[0])
    except SpiffeIdError as error:
        raise IdentityError(str(error), reason="spiffe-id") from error


def _check_basic_constraints(leaf: x509.Certificate, where: str = "") -> None:
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:  # SPIFFE X509-SVID 4.1, 5.2
        raise IdentityError("leaf may sign certificates", reason="ca-leaf", where=where)


def _check_key_usage(leaf: x509.Certificate, spiffe_id: SpiffeId) -> None:
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.critical or not usage.value.digital_signature:
        raise IdentityError(  # SPIFFE X509-SVID 4.3
            "key usage is not critical with digitalSignature",
            reason="key-usage",
            where=str(spiffe_id),
        )


def _check_signs_nothing(leaf: x509.Certificate, where: str = "") -> None:
    usage = _extension(leaf, x509.KeyUsage)
    if usage and (usage.value.key_cert_sign or usage.value.crl_sign):  # SPIFFE X509-SVID 4.3, 5.2
        raise IdentityError("leaf's key may sign", reason="key-usage", where=where)


def _check_extended_key_usage(leaf: x509.Certificate, spiffe_id: SpiffeId) -> None:
    usage = _extension(leaf, x509.ExtendedKeyUsage)
    if usage is not None and not _USES.issubset(usage.value):  # SPIFFE X509-SVID 4.4
        raise IdentityError(
            "extended key usage is not for both server and client",
            reason="extended-key-usage",
            where=str(spiffe_id),
        )
