from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker import segments
from plantroom.broker.runs import Origin, Run
from plantroom.broker.session import Session
from plantroom.broker.tree import Grant, Match
from plantroom.wire.errors import StorageCorruptError
from tests.broker.harness import publish


def make(*, tapped: bool = True, durable: bool = True, identifiers: tuple[int, ...] = ()) -> Run:
    run = Run(
        Origin(5, "spiffe://a/b", "client"),
        publish("a", b"1", packet_id=3) + publish("a", b"2", packet_id=4),
        version=4,
        match=Match(),
        at_us=77,
        count=2,
        tapped=tapped,
    )
    session = Session(Origin(9, "x", "y"), durable=durable, limit_bytes=1000)
    grant = Grant(qos=1, retain_as_published=True, identifiers=identifiers)
    run.receivers.append((session, grant, 1, 65_600))
    return run


@given(st.lists(st.integers(1, 2**28 - 1), max_size=4).map(tuple), st.booleans())
def test_segment_is_unpacked_as_it_was_packed(
    identifiers: tuple[int, ...],
    tapped: bool,  # noqa: FBT001 -- hypothesis gives it
) -> None:
    run = make(identifiers=identifiers, tapped=tapped)
    first, second = segments.unpack(segments.pack([run, run]))
    assert first == second
    assert (first.origin, first.data, first.count) == (run.origin, run.data, 2)
    assert (first.version, first.qos, first.at_us, first.tapped) == (4, 1, 77, tapped)
    (waiting,) = first.waiting
    assert (waiting.sid, waiting.ordinal, waiting.qos) == (9, 65_600, 1)
    assert waiting.grant == Grant(qos=1, retain_as_published=True, identifiers=identifiers)


def test_sessions_that_are_not_durable_are_not_stored() -> None:
    (stored,) = segments.unpack(segments.pack([make(durable=False)]))
    assert stored.waiting == ()


def test_arrivals_are_the_tapped_messages_in_order() -> None:
    data = segments.pack([make(tapped=False), make()])
    found = list(segments.arrivals(data))
    assert [(a.payload, a.packet_id) for a in found] == [(b"1", 3), (b"2", 4)]
    assert (found[0].spiffe_id, found[0].client_id, found[0].session) == (
        "spiffe://a/b",
        "client",
        5,
    )


@pytest.mark.parametrize("skip", range(6))
def test_the_first_arrivals_can_be_left_out(skip: int) -> None:
    data = segments.pack([make(), make(tapped=False), make()])
    assert list(segments.arrivals(data, skip)) == list(segments.arrivals(data))[skip:]


@pytest.mark.parametrize("identifiers", [(), (7, 8)])
def test_one_sessions_part_is_found_among_many(identifiers: tuple[int, ...]) -> None:
    run = make(identifiers=identifiers)
    many = [Session(Origin(sid, "x", "y"), durable=True, limit_bytes=1) for sid in range(300)]
    many += [many[17], many[299]]  # once more, through a shared subscription
    # as ordinals, the searched number itself in every place where it might mislead
    run.receivers = [
        (one, Grant(qos=1, identifiers=identifiers), 1, 17 << (number % 9))
        for number, one in enumerate(many)
    ]
    data = segments.pack([run, make(), run])
    found = list(segments.unpack(data, only=17))
    assert len(found) == 2
    for stored in found:
        assert [(w.sid, w.ordinal) for w in stored.waiting] == [(17, 17 << 8), (17, 17 << 3)]
        assert stored.data == run.data
    segments.check(found)


@given(st.data())
def test_damage_is_found_or_harmless(data: st.DataObject) -> None:
    packed = bytearray(segments.pack([make(), make(identifiers=(3,))]))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] = data.draw(st.integers(0, 255))
    with suppress(StorageCorruptError):
        segments.check(segments.unpack(bytes(packed), only=9))


def test_every_changed_byte_is_found_before_anything_is_derived() -> None:
    packed = segments.pack([make(), make(identifiers=(3,))])
    for at in range(len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 1
        with pytest.raises(StorageCorruptError):
            list(segments.arrivals(bytes(changed)))


def test_a_segment_of_a_former_version_has_no_checksum_and_is_read() -> None:
    packed = segments.pack([make(), make()])
    former = packed[5:]
    assert former[0] == 4
    assert list(segments.arrivals(former)) == list(segments.arrivals(packed))
    assert segments.pack([]) == b""


@given(st.integers(1, 10_000))
def test_segment_that_was_cut_short_is_named_as_damaged(cut: int) -> None:
    data = segments.pack([make()])
    with pytest.raises(StorageCorruptError):
        list(segments.unpack(data[: -(cut % (len(data) - 1)) - 1]))


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_give_arrivals_or_a_storage_error(data: bytes) -> None:
    try:
        found = list(segments.arrivals(data))
    except StorageCorruptError:
        return
    assert all(isinstance(one.topic, str) for one in found)
