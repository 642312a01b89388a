"""What an upstream CA gives: the rules for a chain whose first certificate signs our SVIDs.

Source: SPIFFE X509-SVID sections 3.2, 4.1, 4.3; RFC 5280 section 6.
"""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.wire.errors import IdentityError

CHAIN_LENGTH_MAX = 5
Chain = tuple[x509.Certificate, ...]
T = TypeVar("T")


def parse_chain(chain_pem: bytes) -> Chain:
    """Read certificates, ours first.

    Raises:
        IdentityError: with reason `upstream`.
    """
    chain = tuple(_parsed(chain_pem, x509.load_pem_x509_certificates, "chain"))
    if not 1 <= len(chain) <= CHAIN_LENGTH_MAX:
        raise _bad(f"chain has {len(chain)} certificates, {CHAIN_LENGTH_MAX} at most are taken")
    return chain


def parse_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key.

    Raises:
        IdentityError: with reason `upstream`.
    """
    key = _parsed(key_pem, lambda data: serialization.load_pem_private_key(data, None), "key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _bad("key is not on an elliptic curve")
    return key


def parse_request(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of our own CSR.

    Raises:
        IdentityError: with reason `upstream`.
    """
    key = _parsed(csr_pem, x509.load_pem_x509_csr, "request").public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _bad("request's key is not on an elliptic curve")
    return key


def check_chain(
    chain: Chain, key: ec.EllipticCurvePublicKey, trust_domain: str, now_s: int
) -> None:
    """Check that this chain lets this key sign SVIDs of the trust domain, up to its own root.

    Raises:
        IdentityError: with reason `upstream`, naming certificate and rule.
    """
    if chain[0].public_key() != key:
        raise _bad("first certificate is not of our key")
    for below, certificate in enumerate(chain):
        where = f"certificate {below + 1} of {len(chain)}"
        try:
            _check_signing(certificate, below, now_s)
            if below < len(chain) - 1:  # who trusts an SVID looks at this too
                _check_name(certificate, trust_domain)
        except x509.ExtensionNotFound as error:
            raise _bad(f"{where} has no {error.oid._name}") from error  # noqa: SLF001 -- its name
        except (IdentityError, ValueError, x509.DuplicateExtension) as error:
            raise _bad(f"{where}: {error}") from error
        above = chain[min(below + 1, len(chain) - 1)]
        try:
            certificate.verify_directly_issued_by(above)
        except (InvalidSignature, ValueError, TypeError) as error:
            whom = "itself: the last has to be the root" if above is certificate else "the next"
            raise _bad(f"{where} is not signed by {whom}") from error


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the DER, in hex."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def _check_signing(certificate: x509.Certificate, below: int, now_s: int) -> None:
    found = certificate.extensions
    constraints = found.get_extension_for_class(x509.BasicConstraints)
    if not constraints.critical or not constraints.value.ca:  # SPIFFE X509-SVID 4.1
        raise _bad("it may not sign certificates (basic constraints)")
    length = constraints.value.path_length
    if length is not None and length < below:  # RFC 5280 4.2.1.9
        raise _bad(f"its path length {length} does not allow {below} certificates below it")
    usage = found.get_extension_for_class(x509.KeyUsage)
    if not usage.critical or not usage.value.key_cert_sign:  # SPIFFE X509-SVID 4.3
        raise _bad("its key may not sign certificates (key usage)")
    if below == 0:
        found.get_extension_for_class(x509.SubjectKeyIdentifier)  # SVIDs name it
    if _has_name_constraints(certificate):
        raise _bad("it has name constraints, which few TLS libraries understand for URIs")
    if not _in_time(certificate, now_s):
        raise _bad("it is not within its times")


def _check_name(certificate: x509.Certificate, trust_domain: str) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return  # it names no trust domain: a corporate CA
    own = f"spiffe://{trust_domain}"
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("spiffe://") and uri != own:  # SPIFFE X509-SVID 3.2
            raise _bad(f"its SPIFFE ID is {uri[:80]}, not {own}")


def _has_name_constraints(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return False
    return True


def _in_time(certificate: x509.Certificate, now_s: int) -> bool:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return start.timestamp() <= now_s < end.timestamp()


def _parsed(data: bytes, parse: Callable[[bytes], T], what: str) -> T:
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad(f"{what} cannot be read: {error}") from error


def _bad(what: str) -> IdentityError:
    return IdentityError(what, reason="upstream", remedy="see docs/how-to/rotate-a-root.md")
