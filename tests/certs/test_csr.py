"""The helper process that makes keys: both of its ways give what an issuer accepts."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import csr, request

SENSOR = "spiffe://building-1.smart.local/agent/hvac-001"


def check(output: bytes) -> None:
    key_pem, mark, rest = output.partition(b"-----BEGIN CERTIFICATE REQUEST-----")
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")  # PKCS#8
    made = x509.load_pem_x509_csr(mark + rest)
    assert made.is_signature_valid
    assert request.read(mark + rest).key == key.public_key()
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [SENSOR]


def test_libcrypto_makes_a_key_and_a_csr() -> None:
    check(csr.Libcrypto().key_and_csr(SENSOR))


def test_two_keys_differ() -> None:
    library = csr.Libcrypto()
    assert library.key_and_csr(SENSOR) != library.key_and_csr(SENSOR)


def test_without_libcrypto_the_library_cryptography_does_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = csr.Libcrypto
    monkeypatch.setattr(csr, "Libcrypto", lambda: real("libcrypto-that-is-not-there.so"))
    check(csr.key_and_csr(SENSOR))
