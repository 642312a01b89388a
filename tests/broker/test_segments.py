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
    assert not segments.is_stored(make(durable=False, tapped=False))
    assert segments.is_stored(make(tapped=False))
    assert segments.is_stored(make(durable=False))


def test_arrivals_are_the_tapped_messages_in_order() -> None:
    data = segments.pack([make(tapped=False), make()])
    found = list(segments.arrivals(data))
    assert [(a.payload, a.packet_id) for a in found] == [(b"1", 3), (b"2", 4)]
    assert (found[0].spiffe_id, found[0].client_id, found[0].session) == (
        "spiffe://a/b",
        "client",
        5,
    )


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
