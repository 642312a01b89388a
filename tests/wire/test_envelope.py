"""Envelopes: equal there and back; hostile bytes give a named error and nothing else."""

import lzma
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor, envelope
from plantroom.wire.envelope import (
    Batch,
    Book,
    Call,
    Envelope,
    Hello,
    Note,
    Notes,
    Presence,
    Receipt,
    Refill,
    Reply,
    Span,
    Welcome,
)
from plantroom.wire.errors import EnvelopeError
from plantroom.wire.reading import Point, Reading
from tests.fakes.readings import HVAC, hvac_reading, readings

ALL = get_args(Envelope)
NOTE = Note(
    kind="evicted", author="gateway", life=2**60, number=0, device=HVAC, epoch=7, first=3, last=9,
    reason="oldest", at_us=1_763_820_000_000_000,
)  # fmt: skip
SPAN = Span(device=HVAC, epoch=7, first=0, last=999, reason="undecodable")
BOOK = Book(device=HVAC, epoch=7, highest=9, ranges=((0, 4), (6, 9)), digests={0: b"\x01" * 32})
EXAMPLES: list[Any] = [
    Batch(incarnation=1, number=2, lane="live"),
    Batch(
        incarnation=2**63 - 1,
        number=0,
        lane="backfill",
        readings=tuple(hvac_reading(seq) for seq in range(50)),
        notes=(NOTE,),
        heads={HVAC: {7: 49, 6: 1000}},
    ),
    Receipt(
        incarnation=1, number=2, store_id="s", commit=5, stored=(SPAN,), quarantined=(SPAN,),
        notes=(("sensor", 7, 0), ("gateway", 1, 5)),
    ),
    Receipt(incarnation=1, number=2, store_id="s", commit=5, unreadable=True),
    Hello(incarnation=1, number=3, gateway="gateway", books=(BOOK,)),
    Welcome(incarnation=1, number=3, store_id="s", commit=6, books=(BOOK,)),
    Refill(store_id="s", commit=6, holes=(SPAN,)),
    Call(id="c", reply_to="v1/cloud/reply/x/c", timeout_s=2.5, idempotency_key="k", data={"a": 1}),
    Reply(id="c1", data=[1, {"b": None}]),
    Reply(id="c1", error="not there"),
    Presence(online=True, epoch=7, heads={7: 9, 6: 4}, at_us=5, info={"version": "0.1"}),
    Notes(notes=(NOTE, NOTE)),
]  # fmt: skip


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_decode_is_the_inverse_of_encode(message: Any) -> None:
    data = envelope.encode(message)
    assert envelope.decode(data, type(message)) == message
    assert envelope.kind_of(data) == type(message).__name__.lower()


def test_note_bytes_and_note_from_are_inverses() -> None:
    correction = replace(NOTE, kind="correction", offset_us=-5)
    assert envelope.note_from(envelope.note_bytes(correction)) == correction


@pytest.mark.parametrize("body", [None, 7, "text", b"", b"\xa0", b"\x01"])
def test_what_is_no_note_is_refused_by_name(body: object) -> None:
    with pytest.raises(EnvelopeError):
        envelope.note_from(body)


def test_every_kind_of_envelope_has_an_example() -> None:
    assert {type(message) for message in EXAMPLES} == set(ALL)


@given(st.lists(readings(), max_size=5))
def test_readings_cross_the_bridge_unchanged(taken: list[Any]) -> None:
    batch = Batch(incarnation=1, number=2, lane="live", readings=tuple(taken))
    found = envelope.decode(envelope.encode(batch), Batch)
    assert [r.canonical() for r in found.readings] == [r.canonical() for r in taken]


@pytest.mark.parametrize("value", [7.978188745755058e-07, 1e-19, 1e-20, 1e-22, 5e-324, 1.7e308])
def test_a_number_of_any_size_crosses_without_a_tag(value: float) -> None:
    points = (Point(name="a", unit=None, value=value),)
    reading = Reading(device=HVAC, epoch=0, seq=0, time_us=None, mono_us=0, points=points)
    batch = Batch(incarnation=1, number=2, lane="live", readings=(reading,))
    assert envelope.decode(envelope.encode(batch), Batch) == batch


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_kind_that_is_not_wanted_is_refused(message: Any) -> None:
    others = [kind for kind in ALL if kind is not type(message)]
    with pytest.raises(EnvelopeError, match="is not wanted here"):
        envelope.decode(envelope.encode(message), *others)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_named_error(data: bytes) -> None:
    for read in (envelope.kind_of, envelope.batch_name, lambda d: envelope.decode(d, *ALL)):
        with pytest.raises(EnvelopeError):
            read(data)


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_damaged_envelope_is_an_envelope_or_an_error(message: Any, data: st.DataObject) -> None:
    whole = bytearray(envelope.encode(message))
    for _ in range(data.draw(st.integers(min_value=1, max_value=4))):
        at = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
        whole[at] = data.draw(st.integers(min_value=0, max_value=255))
    try:
        found = envelope.decode(bytes(whole), *ALL)
    except EnvelopeError as error:
        assert error.what  # noqa: PT017 -- either way is right
    else:
        assert envelope.decode(envelope.encode(found), type(found)) == found


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"v": None}, {"k": "parcel"}, {"k": 5}, {"k": []}, {5: 5}, {"number": "two"}],
)
def test_an_envelope_of_another_form_is_refused(change: dict[Any, Any]) -> None:
    table = cbor.loads(envelope.encode(EXAMPLES[4]), bytes_max=9999, error=EnvelopeError)
    with pytest.raises(EnvelopeError):
        envelope.decode(cbor.dumps(table | change), Hello)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 70_000, 140_000])
def test_a_body_is_compressed_as_if_with_the_whole_dictionary(size: int) -> None:
    body = b"".join(b"%07d\n" % (seq * seq % 9_999_991) for seq in range(size // 8 + 1))[:size]
    fitting = envelope._compressed(body)
    whole = lzma.compress(body, lzma.FORMAT_RAW, filters=envelope._LZMA_FILTERS)
    assert fitting == whole
    assert lzma.decompress(fitting, lzma.FORMAT_RAW, filters=envelope._LZMA_FILTERS) == body


# A batch that cannot be read is answered by its name ---------------------------------------------


def damaged(**change: Any) -> bytes:
    table = cbor.loads(envelope.encode(EXAMPLES[1]), bytes_max=1 << 20, error=EnvelopeError)
    return cbor.dumps(table | change)


def packed(body: object) -> bytes:
    return lzma.compress(
        body if isinstance(body, bytes) else cbor.dumps(body),
        lzma.FORMAT_RAW,
        filters=envelope._LZMA_FILTERS,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not compressed",
        packed(b""),
        packed(b"not CBOR"),
        packed({}),
        packed({"rows": 5}),
        packed({"rows": "text"}),
        packed({"rows": b"\x00"}),
        packed({"rows": b"", "notes": 5}),
        packed({"rows": b"", "heads": {"d": {"e": 1}}}),
        packed({"rows": b""}) + b"behind",
        packed({"rows": b""})[:-1],
    ],
)
def test_a_batch_whose_body_cannot_be_read_still_has_its_name(body: bytes) -> None:
    data = damaged(body=body)
    with pytest.raises(EnvelopeError):
        envelope.decode(data, Batch)
    assert envelope.batch_name(data) == (2**63 - 1, 0)


def test_a_bomb_does_not_go_off() -> None:
    bomb = packed(bytes(envelope.BODY_BYTES_MAX + 1))
    assert len(bomb) < 20_000
    with pytest.raises(EnvelopeError, match="beyond"):
        envelope.decode(damaged(body=bomb), Batch)


def test_a_batch_without_a_name_has_none() -> None:
    for change in ({"incarnation": "x"}, {"number": None}, {"number": 2**63}):
        with pytest.raises(EnvelopeError):
            envelope.batch_name(damaged(**change))


def test_an_envelope_beyond_the_limit_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="the limit is"):
        envelope.kind_of(bytes(envelope.ENVELOPE_BYTES_MAX + 1))
