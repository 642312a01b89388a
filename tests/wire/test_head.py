from typing import Any

import pytest

from plantroom.wire import cbor, cose, head
from plantroom.wire.errors import RejectedError
from plantroom.wire.head import Head, Pin
from tests.fakes import ota_author

CLASS, DIGEST = bytes(16), bytes(32)
CLAIMS: dict[Any, Any] = {
    1: "issuer",
    4: 2,
    6: 1,
    -70001: 3,
    -70002: {CLASS: [1, DIGEST, "all"]},
    -70003: [],
}


def test_a_head_is_read_as_it_was_written() -> None:
    made = Head(
        version=3,
        issued_s=10,
        expires_s=20,
        classes={CLASS: Pin(sequence=9, digest=DIGEST, rollout="assigned")},
        revoked=frozenset({bytes([1] * 32)}),
        issuer="spiffe://smart-building.cloud/agent/ota",
    )
    signer = ota_author.signer()
    read, signed = head.read(head.build(made, signer))
    assert read == made
    assert [one.kid for one in signed.signatures] == [signer.key.kid]


def test_the_claims_of_the_table_are_accepted() -> None:
    head.read(cose.sign1(cbor.dumps(CLAIMS), ota_author.signer()))


@pytest.mark.parametrize(
    "change",
    [
        {7: b"cti"},
        {4: None},
        {4: "tomorrow"},
        {6: -1},
        {-70001: True},
        {1: 5},
        {-70002: []},
        {-70002: {b"short": [1, DIGEST, "all"]}},
        {-70002: {CLASS: [1, DIGEST]}},
        {-70002: {CLASS: [1, DIGEST, "some"]}},
        {-70002: {CLASS: [-1, DIGEST, "all"]}},
        {-70002: {CLASS: [1, b"", "all"]}},
        {-70003: [b""]},
        {-70003: [DIGEST] * 257},
    ],
)
def test_anything_else_is_malformed(change: dict[Any, Any]) -> None:
    claims = {key: value for key, value in (CLAIMS | change).items() if value is not None}
    with pytest.raises(RejectedError) as caught:
        head.read(cose.sign1(cbor.dumps(claims), ota_author.signer()))
    assert caught.value.code == "malformed"
