import hashlib
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import light_signatures, signatures
from plantroom.wire import cbor, suit
from plantroom.wire.errors import RejectedError
from tests.fakes import ota_author, ota_examples


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(RejectedError) as caught:
        act()
    return caught.value.code


@pytest.mark.parametrize("number", ota_examples.NUMBERS)
@pytest.mark.parametrize("verify", [signatures.verify, light_signatures.verify])
def test_examples_of_the_draft_verify(number: int, verify: Any) -> None:
    envelope = suit.read(ota_examples.example(number))
    assert envelope.manifest.sequence == number
    (signature,) = envelope.signed.signatures
    assert signature.is_of(ota_examples.key(), envelope.signed.payload, verify)
    assert not signature.is_of(ota_author.p256_signer().key, envelope.signed.payload, verify)
    assert not signature.is_of(ota_examples.key(), envelope.signed.payload + b"x", verify)


@pytest.mark.parametrize("number", ota_examples.NUMBERS)
def test_examples_of_the_draft_are_read_unsigned_and_untagged(number: int) -> None:
    signed = suit.read(ota_examples.example(number))
    unsigned = suit.read(ota_examples.example(number, "unsigned"))
    assert unsigned.signed.signatures == ()
    assert unsigned.digest == signed.digest
    untagged = suit.read(ota_examples.example(number).removeprefix(b"\xd8\x6b"))
    assert untagged == signed


def test_example_0_is_written_byte_for_byte() -> None:
    digest = bytes.fromhex("00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210")
    manifest = suit.build_manifest(
        sequence=0,
        components=[[b"\0"]],
        shared=[
            20,
            {
                1: bytes.fromhex("fa6b4a53d5ad5fdfbe9de663e4d41ffe"),
                2: bytes.fromhex("1492af1425695e48bf429b2d51f2ab45"),
                3: suit.encode_digest(digest),
                14: 34768,
            },
            *(1, 15, 2, 15),
        ],
        sequences={suit.VALIDATE: [3, 15], suit.INVOKE: [23, 2]},
    )
    assert suit.build(manifest, []) == ota_examples.example(0, "unsigned")
    block = cbor2.loads(cbor2.loads(ota_examples.example(0)).value[2])[1]
    assert suit.build_of(manifest, [block]) == ota_examples.example(0)


def test_a_changed_manifest_is_not_the_signed_one() -> None:
    table = dict(cbor2.loads(ota_author.Author().manifest()).value)
    table[3] = table[3][:-1] + bytes([table[3][-1] ^ 1])
    data = cbor.dumps(cbor2.CBORTag(107, table))
    assert code_of(lambda: suit.read(data)) == "digest-mismatch"


@pytest.mark.parametrize(
    ("key", "code"),
    [("junk", "unknown-envelope-key"), (5, "unknown-envelope-key"), (20, "unknown-envelope-key")],
)
def test_junk_beside_the_manifest_is_refused(key: int | str, code: str) -> None:
    table = {**cbor2.loads(ota_author.Author().manifest()).value, key: b"junk"}
    assert code_of(lambda: suit.read(cbor.dumps(cbor2.CBORTag(107, table)))) == code


def test_a_severed_member_that_was_changed_is_refused() -> None:
    table = dict(cbor2.loads(ota_examples.example(2)).value)
    assert table[20]
    table[20] = cbor.dumps([21, 2])
    data = cbor.dumps(cbor2.CBORTag(107, table))
    assert code_of(lambda: suit.read(data)) == "digest-mismatch"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"\xd8\x6c" + data[2:],
        lambda data: b"\xd9\0\x6b" + data[2:],  # longer than it need be
        lambda _data: b"",
        lambda _data: b"\xd8\x6b\xa0",
        lambda _data: cbor.dumps(cbor2.CBORTag(107, {2: "text", 3: b""})),
        lambda _data: cbor.dumps(cbor2.CBORTag(107, {2: cbor.dumps([]), 3: b""})),
        lambda data: data + bytes(suit.ENVELOPE_BYTES_MAX),
    ],
)
def test_what_is_no_envelope_is_malformed(change: Callable[[bytes], bytes]) -> None:
    data = change(ota_author.Author().manifest())
    assert code_of(lambda: suit.read(data)) == "malformed"


@pytest.mark.parametrize(
    "table",
    [
        {1: 2, 2: 1, 3: cbor.dumps({2: [[b"a"]]})},
        {1: 1, 2: -1, 3: cbor.dumps({2: [[b"a"]]})},
        {1: 1, 2: True, 3: cbor.dumps({2: [[b"a"]]})},
        {1: 1, 2: 1},
        {1: 1, 2: 1, 3: cbor.dumps({2: []})},
        {1: 1, 2: 1, 3: cbor.dumps({2: [["a"]]})},
        {1: 1, 2: 1, 3: cbor.dumps({2: [[b"a"]], 9: 1})},
        {1: 1, 2: 1, 3: cbor.dumps({2: [[b"a"]]}), 7: 5},
        {1: 1, 2: 1, 3: cbor.dumps({2: [[b"a"]]}), 6: ["1"]},
        {1: 1, 2: 1, 3: cbor.dumps({2: [[b"a"]]}), "x": 1},
        [1],
    ],
)
def test_what_is_no_manifest_is_malformed(table: object) -> None:
    envelope = suit.build(cbor.dumps(table), [])
    assert code_of(lambda: suit.read(envelope)) == "malformed"


@given(st.binary(max_size=200))
def test_any_bytes_give_an_envelope_or_a_named_error(data: bytes) -> None:
    try:
        suit.read(data)
    except RejectedError as error:
        assert error.code  # noqa: PT017 -- either way is right


def test_a_signature_is_added_to_an_envelope_that_is_there() -> None:
    author = ota_author.Author()
    second = ota_author.p256_signer()
    envelope = suit.read(suit.countersign(author.manifest(), second))
    payload = envelope.signed.payload
    first, added = envelope.signed.signatures
    assert first.is_of(author.authors[0].key, payload, signatures.verify)
    assert added.is_of(second.key, payload, signatures.verify)


def test_digest_is_of_the_encoded_manifest() -> None:
    envelope = ota_author.Author().manifest()
    manifest = cbor2.loads(envelope).value[3]
    assert suit.read(envelope).digest == hashlib.sha256(cbor2.dumps(manifest)).digest()
