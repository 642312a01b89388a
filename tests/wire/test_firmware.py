import dataclasses
import io
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor, firmware, suit
from plantroom.wire.errors import RejectedError
from plantroom.wire.firmware import Chunks
from plantroom.wire.suit_commands import Target
from tests.fakes import ota_author
from tests.fakes.ota_author import DEVICE, IMAGE, Author


def refused(data: bytes, target: Target | None = None) -> str:
    with pytest.raises(RejectedError) as caught:
        firmware.read(suit.read(data), target)
    return caught.value.code


def test_a_release_is_read_as_it_was_written() -> None:
    author = Author()
    made = author.release(7, notes="Fans turn slower at night.", device=DEVICE)
    read = firmware.read(suit.read(firmware.build(made, author.authors)), author.target)
    assert dataclasses.replace(read, digest=b"") == made
    assert read.image == ota_author.digest(IMAGE).hex()
    assert read.version == "1.7.0"


def test_chunks_know_their_own_bytes() -> None:
    digest, chunks = firmware.cut(io.BytesIO(IMAGE), 1024)
    assert digest == ota_author.digest(IMAGE)
    assert chunks.count == -(-len(IMAGE) // 1024)
    last = chunks.count - 1
    assert chunks.length(0) == 1024
    assert chunks.length(last) == len(IMAGE) % 1024
    for number in range(chunks.count):
        piece = IMAGE[number * 1024 : (number + 1) * 1024]
        assert chunks.fits(number, piece)
        assert not chunks.fits(number, piece[:-1])
        assert not chunks.fits(number, piece + b"x")
        assert not chunks.fits(number, bytes([piece[0] ^ 1]) + piece[1:])
    assert not chunks.fits(last, IMAGE[:1024])
    assert not chunks.fits(chunks.count, b"")
    assert not chunks.fits(-1, IMAGE[:1024])


@given(st.integers(1, 5000), st.integers(1024, 4096))
def test_lengths_of_chunks_add_up(image_bytes: int, chunk_bytes: int) -> None:
    chunks = Chunks(
        image_bytes=image_bytes,
        chunk_bytes=chunk_bytes,
        digests=bytes(32 * -(-image_bytes // chunk_bytes)),
    )
    assert sum(map(chunks.length, range(chunks.count))) == image_bytes


@pytest.mark.parametrize(
    ("image_bytes", "chunk_bytes", "digests"),
    [(0, 1024, 0), (2**31, 1024, 0), (1024, 1023, 2), (1024, 2**20, 1), (1025, 1024, 1)],
)
def test_tables_that_fit_no_image_are_refused(
    image_bytes: int, chunk_bytes: int, digests: int
) -> None:
    with pytest.raises(RejectedError):
        Chunks(image_bytes=image_bytes, chunk_bytes=chunk_bytes, digests=bytes(32 * digests))


def test_a_release_for_others_is_refused() -> None:
    author = Author()
    target = author.target
    other = bytes(16)
    data = author.manifest(device=DEVICE)
    for field, code in (
        ("vendor_id", "wrong-vendor"),
        ("class_id", "wrong-class"),
        ("device_id", "wrong-device"),
    ):
        changes: dict[str, Any] = {field: other}
        assert refused(data, dataclasses.replace(target, **changes)) == code
    assert firmware.read(suit.read(data)).device_id == target.device_id


def changed(author: Author, change: dict[Any, Any]) -> bytes:
    """Put another member beside a genuine, signed manifest."""
    table = {**cbor2.loads(author.manifest()).value, **change}
    return cbor.dumps(cbor2.CBORTag(107, table))


def test_junk_in_the_envelope_is_refused() -> None:
    author = Author()
    assert refused(changed(author, {"#junk": b"z" * 50_000})) == "unknown-envelope-key"
    assert refused(changed(author, {"#chunks": b"z"})) == "digest-mismatch"


def resigned(author: Author, change: dict[int, Any]) -> bytes:
    """Sign a manifest with other members: what an author's tool could have done."""
    envelope = cbor2.loads(author.manifest()).value
    manifest = {**cbor.loads(envelope[3], bytes_max=99999, error=ValueError), **change}
    return suit.build(
        cbor.dumps({key: part for key, part in manifest.items() if part is not None}),
        author.authors,
        members={"#chunks": envelope["#chunks"]},
    )


CHUNKS_FETCH = [12, 1, 20, {21: "#chunks"}, 21, 2, 3, 15]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({4: "https://x"}, "unknown-manifest-key"),
        ({9: cbor.dumps([23, 2])}, "unknown-manifest-key"),
        ({16: cbor.dumps([21, 2])}, "unknown-manifest-key"),
        ({3: cbor.dumps({2: [[b"firmware"]]})}, "unsupported-component"),
        ({7: None}, "malformed"),
        ({20: None}, "malformed"),
        ({6: None}, "malformed"),
        ({6: [1, -1]}, "malformed"),
        ({23: b"no text"}, "malformed"),
        ({23: cbor.dumps({"en": {1: "x" * 2001}})}, "malformed"),
        ({20: cbor.dumps([23, 2])}, "unsupported-command"),
        ({20: cbor.dumps([20, {22: 1}, 22, 2])}, "unsupported-command"),
        ({20: cbor.dumps([99, 2])}, "unsupported-command"),
        ({20: cbor.dumps(CHUNKS_FETCH)}, "unsupported-uri"),
        (
            {20: cbor.dumps([*CHUNKS_FETCH, 12, 0, 20, {21: "http://x/"}, 21, 2, 3, 15])},
            "unsupported-uri",
        ),
        ({3: cbor.dumps({2: [[b"firmware"], [b"chunks"]]})}, "malformed"),
    ],
)
def test_a_signed_manifest_of_another_form_is_refused(change: dict[int, Any], code: str) -> None:
    assert refused(resigned(Author(), change)) == code


@pytest.mark.parametrize("version", ["", "1.", "v1", "1.2.3.4.5.6.7.8.9", "1,2", "-1"])
def test_a_version_is_numbers_and_dots(version: str) -> None:
    with pytest.raises(RejectedError, match="version"):
        Author().release(version=version)


def test_notes_are_bounded() -> None:
    with pytest.raises(RejectedError, match="notes"):
        Author().release(notes="x" * 2001)


def test_a_table_that_is_too_large_asks_for_larger_chunks() -> None:
    author = Author()
    image = bytes(2100 * 1024)
    digest, chunks = firmware.cut(io.BytesIO(image), 1024)
    made = author.release(image_digest=digest, chunks=chunks)
    with pytest.raises(RejectedError, match="larger chunks"):
        firmware.build(made, author.authors)


def test_classes_and_devices_have_the_same_identifier_everywhere() -> None:
    vendor_id, class_id = firmware.class_id("plantroom.test", "hvac")
    assert firmware.class_is("hvac", vendor_id=vendor_id, class_id=class_id)
    assert not firmware.class_is("energy", vendor_id=vendor_id, class_id=class_id)
    assert firmware.device_id(vendor_id, DEVICE) == firmware.device_id(vendor_id, DEVICE)
    # SUIT 8.4.8.2 names these of the domain arm.com, as the draft's own examples have them.
    assert firmware.class_id("arm.com", "x")[0].hex() == "fa6b4a53d5ad5fdfbe9de663e4d41ffe"


def test_sizes_are_those_of_one_message() -> None:
    author = Author()
    assert len(author.manifest(image=b"x")) < 520
    assert len(author.head(manifests=[author.manifest()])) < 300
    assert len(author.trust()) < 620
