import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from plantroom.certs import signatures
from plantroom.wire.cose import ED25519, ESP256
from plantroom.wire.errors import ConfigError


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


def pem(key: signatures.PrivateKey, *, password: bytes = b"") -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def test_a_key_is_read_from_its_file() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())):
        assert signatures.public_key(signatures.load_key(pem(key))) == signatures.public_key(key)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"junk", "not a private key"),
        (pem(ed25519.Ed25519PrivateKey.generate(), password=b"secret"), "without a password"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "neither Ed25519 nor P-256"),
    ],
)
def test_a_key_of_no_use_is_named(data: bytes, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        signatures.load_key(data)
