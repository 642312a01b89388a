"""What the issuer takes from a CSR, and what not."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import request
from plantroom.wire.errors import IdentityError

PEM = serialization.Encoding.PEM
EMPTY = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))


def reason(csr_pem: bytes) -> str | None:
    try:
        request.read(csr_pem)
    except IdentityError as error:
        return error.reason
    return None


def test_a_p256_key_is_taken_and_others_are_not() -> None:
    sha256 = hashes.SHA256()
    made = [
        EMPTY.sign(ec.generate_private_key(ec.SECP256R1()), sha256),
        EMPTY.sign(ec.generate_private_key(ec.SECP384R1()), sha256),
        EMPTY.sign(rsa.generate_private_key(public_exponent=65537, key_size=2048), sha256),
        EMPTY.sign(ed25519.Ed25519PrivateKey.generate(), None),
    ]
    found = [reason(csr.public_bytes(PEM)) for csr in made]
    assert found == [None, "csr-key", "csr-key", "csr-key"]


def test_a_csr_that_its_key_has_not_signed_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = EMPTY.sign(key, hashes.SHA256())
    other = EMPTY.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    data = made.public_bytes(serialization.Encoding.DER)
    swapped = data.replace(_point(made), _point(other))
    assert data != swapped
    from plantroom.certs import pem

    assert reason(pem.encode(pem.REQUEST, swapped)) == "csr-signature"


def _point(csr: x509.CertificateSigningRequest) -> bytes:
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_a_csr_or_a_named_error(data: bytes) -> None:
    from plantroom.certs import pem

    assert reason(data) == "csr-bad"
    assert reason(pem.encode(pem.REQUEST, data)) == "csr-bad"


def test_a_csr_that_is_too_large_is_not_read() -> None:
    assert reason(b"x" * (request.CSR_BYTES_MAX + 1)) == "csr-bad"
