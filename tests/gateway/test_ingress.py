import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.gateway import ingress, stored
from plantroom.wire import cbor, envelope
from plantroom.wire.envelope import Note, Notes

DOMAIN = "building-1.smart.local"


def test_a_pack_gives_rows_with_hash_and_canonical_body(lab: Any) -> None:
    readings = [lab.reading(n) for n in range(3)]
    intake = ingress.read(lab.pack(readings), DOMAIN)
    assert intake is not None
    assert intake.device == lab.device()
    assert intake.claim == (7, 0, 2)
    assert [stored.reading_from(row.body) for row in intake.rows] == readings
    assert all(row.hash == hashlib.sha256(row.body).digest() for row in intake.rows)


def test_only_telemetry_is_taken(lab: Any) -> None:
    assert (
        ingress.read(lab.pack([], topic="v1/building-1/presence/x", payload=b"x"), DOMAIN) is None
    )
    assert ingress.read(lab.pack([], topic="elsewhere", payload=b"x"), DOMAIN) is None


@given(st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_give_an_intake_and_never_an_exception(payload: bytes, claim: str) -> None:
    class Arrival:
        topic = "v1/building-1/telemetry/hvac-001"
        dup, packet_id, session = False, 1, 1

        def __init__(self) -> None:
            self.payload = payload
            self.user = {"range": claim}

    intake = ingress.read(Arrival(), DOMAIN)
    assert intake is not None
    assert intake.rows or intake.bad or intake.samples or intake.notes or payload[:1] == b"\xa0"


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("7/0/9", (7, 0, 9)),
        ("", None),
        ("7/0", None),
        ("7/9/0", None),
        ("7/0/99999999", None),
        ("-7/0/1", None),
        ("7/0/1/2", None),
        ("9007199254740992/0/1", None),
        ("\u0667/0/1", None),
        ("1" * 5000 + "/0/1", None),
    ],
)
def test_the_range_property_is_read_strictly(text: str, claim: Any) -> None:
    assert ingress.claim_of({"range": text}) == claim


def note(**more: Any) -> Note:
    values: dict[str, Any] = {
        "kind": "evicted",
        "author": "sensor",
        "life": 7,
        "number": 0,
        "device": f"spiffe://{DOMAIN}/agent/hvac-001",
        "epoch": 7,
        "first": 0,
        "last": 9,
        "reason": "full",
        "at_us": 1,
    }
    return Note(**values | more)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"author": "gateway"}, "foreign-device"),
        ({"device": f"spiffe://{DOMAIN}/agent/other"}, "foreign-device"),
        ({"first": 5, "last": 4}, "out-of-range"),
        ({"epoch": -1}, "out-of-range"),
    ],
)
def test_a_note_that_is_not_the_sensors_own_is_set_aside(
    lab: Any, more: dict[str, Any], reason: str
) -> None:
    payload = envelope.encode(Notes(notes=(note(), note(**more))))
    intake = ingress.read(lab.pack([], payload=payload), DOMAIN)
    assert intake is not None
    assert intake.notes == [note()]
    assert [bad.reason for bad in intake.bad] == [reason]


def test_a_sample_of_another_device_is_set_aside(lab: Any) -> None:
    records = [{-2: lab.device("other") + "/", -3: 1.79e9, 0: "t", 2: 1}]
    intake = ingress.read(lab.pack([], payload=cbor.dumps(records)), DOMAIN)
    assert intake is not None
    assert not intake.samples
    assert [bad.reason for bad in intake.bad] == ["foreign-device"]


def test_a_payload_full_of_bad_notes_is_set_apart_once_a_reason(lab: Any) -> None:
    """Each would keep the whole payload: 8 GB of one message."""
    other = [note(device=lab.device("energy-001"), number=n) for n in range(50)]
    beyond = [note(number=-1 - n) for n in range(50)]
    good = [note(number=n) for n in range(2)]
    payload = envelope.encode(Notes(notes=(*other, *good, *beyond)))
    intake = ingress.read(lab.pack([], payload=payload), DOMAIN)
    assert intake is not None
    assert [bad.reason for bad in intake.bad] == ["foreign-device", "out-of-range"]
    assert all(bad.raw == payload for bad in intake.bad)
    assert intake.notes == good
