import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from plantroom.certs import signatures
from plantroom.wire.cose import ED25519, ESP256


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ed25519.Ed25519PrivateKey.generate(), ED25519),
        (ec.generate_private_key(ec.SECP256R1()), ESP256),
    ],
)
def test_signer_signs_as_its_public_key_says(key: signatures.PrivateKey, algorithm: int) -> None:
    signer = signatures.signer(key)
    assert signer.key.algorithm == algorithm
    assert signer.key == signatures.public_key(key)
    assert signatures.verify(signer.key, signer.sign(b"message"), b"message")


def test_another_curve_verifies_nothing() -> None:
    signer = signatures.signer(ed25519.Ed25519PrivateKey.generate())
    other = signatures.public_key(ec.generate_private_key(ec.SECP256R1()))
    assert not signatures.verify(other, signer.sign(b"message"), b"message")
