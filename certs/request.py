"""What the issuer takes from a CSR: the public key, and the proof that the sender has its key.

Names in a CSR are never looked at: who is asking is known from the join token or the TLS peer.
"""

import hashlib

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.wire.errors import IdentityError

CSR_BYTES_MAX = 8 * 1024


def public_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the CSR's key.

    Raises:
        IdentityError: with reason `csr-bad`, `csr-signature` or `csr-key`.
    """
    if len(csr_pem) > CSR_BYTES_MAX:
        raise IdentityError(f"CSR has more than {CSR_BYTES_MAX} bytes", reason="csr-bad")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        signed = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"CSR cannot be read: {error}", reason="csr-bad") from error
    if not signed:
        raise IdentityError("CSR is not signed by its own key", reason="csr-signature")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("CSR's key is not on P-256", reason="csr-key")
    return key


def key_hash(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the SHA-256 of the key's SPKI."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()
