import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import tpm_check, tpm_wire
from plantroom.wire.errors import IdentityError
from tests.fakes.chip import Chip, ecc_public

ECC_EK = tpm_wire.ek_template(tpm_wire.ECC)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_structure_or_a_named_error(data: bytes) -> None:
    reasons = set()
    for read in (tpm_wire.read_public, tpm_wire.read_quote):
        try:
            read(data)
        except IdentityError as error:
            reasons.add(error.reason)
    assert reasons <= {"tpm-structure"}


@given(st.integers(0, 2**32 - 1), st.data())
def test_a_public_area_with_other_bytes_is_read_or_refused(seed: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(ECC_EK) - 1))
    changed = ECC_EK[:at] + bytes([seed & 0xFF]) + ECC_EK[at + 1 :]
    found: set[object] = set()
    try:
        found.add(tpm_wire.read_public(changed).kind)
    except IdentityError as error:
        found.add(error.reason)
    assert found <= {tpm_wire.RSA, tpm_wire.ECC, "tpm-structure"}


def test_the_hash_of_a_key_is_what_others_make_of_it() -> None:
    chip = Chip()
    assert tpm_wire.spki_sha256(chip.ek_public) == chip.fingerprint
    for _ in range(20):  # numbers with a leading zero byte among them
        key = ec.generate_private_key(ec.SECP256R1())
        assert tpm_wire.spki_sha256(ecc_public(key)) == tpm_check.spki_hash(key.public_key())


def test_a_name_and_a_selection_are_as_the_specification_has_them() -> None:
    assert tpm_wire.name_of(b"")[:2] == b"\x00\x0b"
    assert len(tpm_wire.name_of(b"")) == 34
    assert tpm_wire.selection((0, 7, 8, 23)).hex() == "00000001000b03810180"


@pytest.mark.parametrize("size", [1024, 2048])
def test_a_modulus_is_of_a_size_that_counts(size: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=size)
    modulus = key.public_key().public_numbers().n.to_bytes(size // 8, "big")
    head = tpm_wire.ek_template(tpm_wire.RSA)[: -2 - 256 - 6]
    area = head + size.to_bytes(2, "big") + bytes(4) + tpm_wire.sized(modulus)
    if size < 2048:
        with pytest.raises(IdentityError, match="modulus"):
            tpm_wire.read_public(area)
    else:
        assert tpm_wire.read_public(area).second == 65_537


def test_too_much_is_not_read() -> None:
    with pytest.raises(IdentityError, match="too long"):
        tpm_wire.read_public(bytes(tpm_wire.PUBLIC_BYTES_MAX + 1))
    with pytest.raises(IdentityError, match="follow its end"):
        tpm_wire.read_public(ECC_EK + b"\0")
