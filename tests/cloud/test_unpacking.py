from hypothesis import given
from hypothesis import strategies as st

from plantroom.cloud.unpacking import unpack
from plantroom.wire import cbor, envelope
from plantroom.wire.envelope import Hello
from plantroom.wire.link import Message
from tests.fakes.deliveries import delivery, reading

GOOD = envelope.encode(delivery([reading(0)], number=5).batch)


def message(payload: bytes, lane: str = "live") -> Message:
    return Message(topic=f"v1/building-1/uplink/gateway/{lane}", payload=payload)


def test_batches_hellos_and_rubbish_are_told_apart() -> None:
    hello = envelope.encode(Hello(incarnation=1, number=2, gateway="gateway"))
    found = unpack(
        [
            message(GOOD),
            message(GOOD, "backfill"),
            message(hello, "hello"),
            message(b"rubbish"),
            message(hello),
            Message(topic="v1/building-1/presence/gateway", payload=GOOD),
            Message(topic="nothing of ours", payload=GOOD),
        ],
        received_us=9,
    )
    assert [(each.site, each.gateway, each.received_us) for each in found.deliveries] == [
        ("building-1", "gateway", 9)
    ] * 2
    assert [place for place, _ in found.hellos] == [("building-1", "gateway")]
    assert len(found.refused) + len(found.unreadable) == 4


def test_batch_whose_body_is_broken_keeps_its_name() -> None:
    table = {"v": 1, "k": "batch", "incarnation": 7, "number": 3, "lane": "live", "body": b"x"}
    found = unpack([message(cbor.dumps(table))], received_us=0)
    (broken,) = found.unreadable
    assert (broken.place, broken.incarnation, broken.number) == (("building-1", "gateway"), 7, 3)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_named_or_refused(payload: bytes) -> None:
    found = unpack([message(payload)], received_us=0)
    assert len(found.deliveries) + len(found.unreadable) + len(found.refused) == 1


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_flipped_bits_never_stop_the_next_one(at: int, flip: int) -> None:
    broken = bytearray(GOOD)
    broken[at] ^= flip
    found = unpack([message(bytes(broken)), message(GOOD)], received_us=0)
    assert found.deliveries[-1].batch.number == 5
