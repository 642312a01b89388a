"""What the issuer takes from a CSR: the public key, and the proof that the sender has its key.

Who is asking is known from the join token, the chip or the TLS peer. A CSR can only agree: one
that names another ID is refused, and nothing else in it is looked at.
"""

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.wire.errors import IdentityError

CSR_BYTES_MAX = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A CSR's key, and the URIs that it names itself by."""

    key: ec.EllipticCurvePublicKey
    claims: frozenset[str]


def read(csr_pem: bytes) -> Requested:
    """Read a CSR and check that its key has signed it.

    Raises:
        IdentityError: with reason `csr-bad`, `csr-signature` or `csr-key`.
    """
    if len(csr_pem) > CSR_BYTES_MAX:
        raise IdentityError(f"CSR has more than {CSR_BYTES_MAX} bytes", reason="csr-bad")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        signed = csr.is_signature_valid
        key = csr.public_key()
        claims = _uris(csr)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"CSR cannot be read: {error}", reason="csr-bad") from error
    if not signed:
        raise IdentityError("CSR is not signed by its own key", reason="csr-signature")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("CSR's key is not on P-256", reason="csr-key")
    return Requested(key=key, claims=claims)


def _uris(csr: x509.CertificateSigningRequest) -> frozenset[str]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(names.get_values_for_type(x509.UniformResourceIdentifier))


def key_hash(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the SHA-256 of the key's SPKI."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()
