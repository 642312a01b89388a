"""What is checked of a chip's keys and certificate; whole attestations are in test_attestation."""

import hashlib
import hmac
import struct
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import tpm_check, tpm_wire
from plantroom.certs.tpm_wire import Reader, sized
from plantroom.wire.errors import IdentityError
from tests.fakes.chip import Chip, Maker, ecc_public


def ecc_ek(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    point = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
    return tpm_wire.ek_template(tpm_wire.ECC)[:-68] + point


def test_a_credential_for_an_ecc_key_is_sealed_to_it_and_to_the_name() -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), tpm_wire.name_of(b"ak")
    credential, seed = tpm_check.make_credential(ecc_ek(key), name, b"secret")
    reader = Reader(seed)
    x, y = (int.from_bytes(reader.sized(), "big") for _ in range(2))
    theirs = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    party = x.to_bytes(32, "big") + key.public_key().public_numbers().x.to_bytes(32, "big")
    shared = key.exchange(ec.ECDH(), theirs)
    made = hashlib.sha256(struct.pack(">I", 1) + shared + b"IDENTITY\0" + party).digest()
    blob = Reader(credential)
    mac, identity = blob.sized(), blob.rest()
    integrity = tpm_check._kdfa(made, b"INTEGRITY", b"", 256)
    assert mac == hmac.digest(integrity, identity + name, "sha256")


def test_an_endorsement_key_decrypts_and_does_nothing_else() -> None:
    chip = Chip()
    assert tpm_check.endorsement_key(chip.ek_public) == chip.ek.public_key()
    with pytest.raises(IdentityError) as signing:
        tpm_check.endorsement_key(ecc_public(chip.ak))
    assert signing.value.reason == "ek-attributes"
    with pytest.raises(IdentityError) as decrypting:
        tpm_check.attestation_key(chip.ek_public)
    assert decrypting.value.reason == "ak-attributes"


def test_a_point_that_is_not_on_the_curve_is_no_key() -> None:
    with pytest.raises(IdentityError, match="its key is none"):
        tpm_check.endorsement_key(tpm_wire.ek_template(tpm_wire.ECC))


def test_a_certificate_says_who_made_the_chip() -> None:
    maker, chip = Maker(), Chip()
    chip.certify(maker)
    ek = chip.ek.public_key()

    def check(data: bytes) -> str:
        return tpm_check.check_certificate(data, ek, [maker.certificate], now_s=time.time())

    assert check(chip.certificate) == "STMicro"
    assert check(chip.certificate + b"\xff" * 100) == "STMicro"  # as chips store it
    with pytest.raises(IdentityError) as not_an_ek:
        check(maker.sign(ek, ca=True))
    assert not_an_ek.value.reason == "ek-certificate"
    with pytest.raises(IdentityError) as too_early:
        check(maker.sign(ek, start_s=600))
    assert too_early.value.reason == "ek-expired"


def test_only_a_ca_signs_certificates_of_chips() -> None:
    from cryptography import x509

    maker, chip, other = Maker(), Chip(), Chip()
    chip.certify(maker)
    leaf = x509.load_der_x509_certificate(chip.certificate)
    other.certify(maker)
    with pytest.raises(IdentityError) as caught:
        tpm_check.check_certificate(
            other.certificate, other.ek.public_key(), [leaf], now_s=time.time()
        )
    assert caught.value.reason == "ek-ca-unknown"
