"""Both verifiers are one seam: the same keys, signatures and forgeries, the same answers."""

import ssl

import pytest

from plantroom.certs import light_signatures, signatures
from plantroom.wire.cose import ED25519, ESP256, PublicKey, Signer, Verify
from tests.fakes import ota_author

BOTH = pytest.mark.parametrize(
    "verify", [light_signatures.verify, signatures.verify], ids=["libcrypto", "cryptography"]
)
SIGNERS = pytest.mark.parametrize(
    "signer", [ota_author.signer(), ota_author.p256_signer()], ids=["Ed25519", "ESP256"]
)


@BOTH
@SIGNERS
def test_a_signature_of_the_key_is_good(verify: Verify, signer: Signer) -> None:
    for number in range(8):  # r and s with and without leading zeros
        message = b"message %d" % number
        assert verify(signer.key, signer.sign(message), message)


@BOTH
@SIGNERS
def test_every_flipped_bit_is_bad(verify: Verify, signer: Signer) -> None:
    signature = signer.sign(b"message")
    for number in range(len(signature)):
        forged = bytearray(signature)
        forged[number] ^= 1
        assert not verify(signer.key, bytes(forged), b"message")
    assert not verify(signer.key, signature, b"messagf")


@BOTH
@SIGNERS
def test_what_is_no_signature_is_bad(verify: Verify, signer: Signer) -> None:
    for forged in (b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64):
        assert not verify(signer.key, forged, b"message")


@BOTH
def test_another_key_is_bad(verify: Verify) -> None:
    one, other = ota_author.signer(), ota_author.signer()
    assert not verify(other.key, one.sign(b"message"), b"message")


@BOTH
def test_what_is_no_point_verifies_nothing(verify: Verify) -> None:
    for raw in (b"\x04" + bytes(64), b"\x05" * 65):
        assert not verify(PublicKey(algorithm=ESP256, raw=raw), bytes(64), b"message")
    assert not verify(PublicKey(algorithm=ED25519, raw=b"\xff" * 32), bytes(64), b"message")


@BOTH
def test_the_vector_of_rfc_8032(verify: Verify) -> None:
    """Section 7.1, test 2."""
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verify(PublicKey(algorithm=ED25519, raw=key), signature, b"\x72")


def test_what_fails_leaves_no_error_for_ssl() -> None:
    """OpenSSL's queue of errors belongs to the thread, and `ssl` reads it too."""
    point = PublicKey(algorithm=ESP256, raw=b"\x04" + bytes(64))
    assert not light_signatures.verify(point, bytes(64), b"message")
    left, right = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(left, right, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        made.do_handshake()
