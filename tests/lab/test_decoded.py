import json

import pytest

from plantroom.lab import decoded
from plantroom.wire import envelope, senml
from plantroom.wire.envelope import Batch, Presence
from plantroom.wire.link import Message
from tests.fakes.readings import hvac_reading

TOPIC = "v1/building-1/telemetry/hvac-001"


def message(payload: bytes, *, retain: bool = False) -> Message:
    return Message(topic=TOPIC, payload=payload, retain=retain)


def test_a_pack_is_one_line_a_reading() -> None:
    lines = list(decoded.lines(message(senml.encode([hvac_reading(0), hvac_reading(1)]))))
    assert lines == [
        f"{TOPIC} 2025-11-22T14:0{seq}:00.123456Z epoch=7 seq={seq} "
        f"fan_on=true power_mode=eco temperature={21.5 + seq} Cel"
        for seq in (0, 1)
    ]


def test_a_pack_as_json_has_every_value() -> None:
    found = decoded.plain(message(senml.encode([hvac_reading()])))
    (reading,) = json.loads(json.dumps(found))["readings"]
    assert reading["points"]["temperature"] == {"value": 21.5, "unit": "Cel"}
    assert (reading["epoch"], reading["seq"]) == (7, 0)


def test_envelopes_are_named_and_batches_counted() -> None:
    presence = envelope.encode(Presence(online=True, epoch=7, heads={7: 3}))
    (line,) = decoded.lines(message(presence, retain=True))
    assert line.startswith(f"{TOPIC} (retained) presence ")
    assert decoded.plain(message(presence))["presence"]["heads"] == {"7": 3}
    batch = Batch(incarnation=1, number=2, lane="live", readings=(hvac_reading(),))
    (line,) = decoded.lines(message(envelope.encode(batch)))
    assert line == f"{TOPIC} batch 2 live readings=1 notes=0 hvac-001"
    json.dumps(decoded.plain(message(envelope.encode(batch))))


@pytest.mark.parametrize(
    ("payload", "kind", "end"),
    [
        (b"", "empty", "empty"),
        (b'{"value": 1}', "json", '{"value": 1}'),
        (b"hello", "text", "hello"),
        (b"\x00\xff", "bytes", "bytes 00ff"),
        (b"\x81\xa1", "unreadable", ": 81a1"),
        (b"\xa1\x61", "unreadable", ": a161"),
    ],
)
def test_anything_is_shown_as_what_it_is(payload: bytes, kind: str, end: str) -> None:
    assert decoded.plain(message(payload))["kind"] == kind
    (line,) = decoded.lines(message(payload))
    assert line.endswith(end)


def test_a_bad_reading_is_shown_beside_the_good_ones() -> None:
    good = senml.encode([hvac_reading()])
    bad = senml.encode([hvac_reading(1)]).replace(b"power_mode", b"power mode")
    pack = bytes([good[0] + (bad[0] & 0x1F)]) + good[1:] + bad[1:]
    lines = list(decoded.lines(message(pack)))
    assert len(lines) == 2
    assert lines[1].startswith(f"{TOPIC} bad reading epoch=7 seq=1 bad-name")
