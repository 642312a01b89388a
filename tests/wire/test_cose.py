import cbor2
import pytest

from plantroom.certs import signatures
from plantroom.wire import cbor, cose
from plantroom.wire.cose import PublicKey, Signature
from plantroom.wire.errors import RejectedError
from tests.fakes import ota_author


def test_sign1_is_read_back_and_verifies() -> None:
    signer = ota_author.signer()
    signed = cose.read_sign1(cose.sign1(b"payload", signer), "document")
    assert signed.payload == b"payload"
    keys = {signer.key.kid: signer.key}
    assert cose.signers(signed.signatures, b"payload", keys, signatures.verify) == set(keys)
    assert cose.signers(signed.signatures, b"other", keys, signatures.verify) == set()


def test_detached_payload_travels_apart() -> None:
    signer = ota_author.p256_signer()
    data = cose.sign1(b"payload", signer, detached=True)
    signed = cose.read_sign1(data, "document", detached=b"payload")
    assert signed.signatures[0].is_of(signer.key, b"payload", signatures.verify)
    with pytest.raises(RejectedError, match="attached"):
        cose.read_sign1(data, "document")
    with pytest.raises(RejectedError, match="attached"):
        cose.read_sign1(cose.sign1(b"payload", signer), "document", detached=b"payload")


def test_one_key_that_signs_twice_counts_once() -> None:
    signer, other = ota_author.signer(), ota_author.signer()
    signed = cose.read_sign(cose.sign(b"payload", [signer, signer]), "document")
    keys = {one.key.kid: one.key for one in (signer, other)}
    with pytest.raises(RejectedError, match="1 of 2") as caught:
        cose.check_threshold(
            signed, keys=keys, threshold=2, verify=signatures.verify, what="x", code="too-few"
        )
    assert caught.value.code == "too-few"


def test_a_threshold_of_nothing_is_never_met() -> None:
    signed = cose.read_sign(cose.sign(b"payload", [ota_author.signer()]), "document")
    with pytest.raises(RejectedError):
        cose.check_threshold(
            signed, keys={}, threshold=0, verify=signatures.verify, what="x", code="too-few"
        )


def test_attackers_key_under_a_genuine_name_counts_nothing() -> None:
    genuine, attacker = ota_author.signer(), ota_author.signer()
    protected = cbor.dumps({1: -19, 4: genuine.key.kid})
    message = cose.signed_bytes("Signature1", b"", protected, b"payload")
    data = cbor.dumps(cbor2.CBORTag(18, [protected, {}, b"payload", attacker.sign(message)]))
    signed = cose.read_sign1(data, "document")
    keys = {genuine.key.kid: genuine.key}
    assert cose.signers(signed.signatures, b"payload", keys, signatures.verify) == set()


def test_a_signature_without_a_name_counts_nothing() -> None:
    signer = ota_author.signer()
    protected = cbor.dumps({1: -19})
    one = Signature(
        protected=protected,
        algorithm=-19,
        kid=None,
        signature=signer.sign(cose.signed_bytes("Signature1", b"", protected, b"payload")),
        context="Signature1",
    )
    assert one.is_of(signer.key, b"payload", signatures.verify)
    keys = {signer.key.kid: signer.key}
    assert cose.signers([one], b"payload", keys, signatures.verify) == set()


def test_an_algorithm_of_another_curve_counts_nothing() -> None:
    signer = ota_author.signer()
    protected = cbor.dumps({1: -9, 4: signer.key.kid})
    signature = signer.sign(cose.signed_bytes("Signature1", b"", protected, b"payload"))
    data = cbor.dumps(cbor2.CBORTag(18, [protected, {}, b"payload", signature]))
    signed = cose.read_sign1(data, "document")
    keys = {signer.key.kid: signer.key}
    assert cose.signers(signed.signatures, b"payload", keys, signatures.verify) == set()


@pytest.mark.parametrize(
    "parts",
    [
        [cbor.dumps({1: -19, 2: [4]}), {}, b"payload", bytes(64)],  # crit
        [cbor.dumps({1: -19}), {4: b"kid"}, b"payload", bytes(64)],  # not protected
        [cbor.dumps({1: "Ed25519"}), {}, b"payload", bytes(64)],
        [cbor.dumps({1: -19, 4: "kid"}), {}, b"payload", bytes(64)],
        [cbor.dumps({1: -19}), {}, b"payload", bytes(63)],
        [cbor.dumps({1: -19}), {}, "payload", bytes(64)],
        [cbor.dumps([1, -19]), {}, b"payload", bytes(64)],
        [b"", {}, b"payload", bytes(64)],
        [cbor.dumps({1: -19}), {}, b"payload"],
        {"a": 1},
    ],
)
def test_anything_else_is_malformed(parts: object) -> None:
    with pytest.raises(RejectedError) as caught:
        cose.read_sign1(cbor.dumps(cbor2.CBORTag(18, parts)), "document")
    assert caught.value.code == "malformed"


def test_another_tag_trailing_bytes_and_longer_encodings_are_malformed() -> None:
    data = cose.sign1(b"payload", ota_author.signer())
    longer = b"\xd8\x12" + data[1:]  # the tag in two bytes
    for forged in (data[1:], b"\xd3" + data[1:], data + b"\0", data[:-1], longer):
        with pytest.raises(RejectedError) as caught:
            cose.read_sign1(forged, "document")
        assert caught.value.code == "malformed"


def test_sign_takes_one_to_eight_signatures() -> None:
    signer = ota_author.signer()
    for count in (0, 9):
        with pytest.raises(RejectedError, match="signatures"):
            cose.read_sign(cose.sign(b"payload", [signer] * count), "document")


def test_a_key_is_named_by_its_thumbprint() -> None:
    """RFC 9679, 6: the example's P-256 key and its SHA-256 thumbprint."""
    x = bytes.fromhex("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d")
    y = bytes.fromhex("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c")
    key = PublicKey(algorithm=-9, raw=b"\x04" + x + y)
    assert key.kid.hex() == "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"[:16]


def test_a_key_of_another_length_is_none() -> None:
    with pytest.raises(RejectedError, match="key"):
        PublicKey(algorithm=-19, raw=bytes(31))
    with pytest.raises(RejectedError, match="key"):
        PublicKey(algorithm=-8, raw=bytes(32))
