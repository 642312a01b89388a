"""SenML: what we write comes back, what others write is read by RFC 8428, the rest is named."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor, senml
from plantroom.wire.errors import PackError
from plantroom.wire.reading import KEY_MAX, TIME_US_MIN, Point, Reading, Sample
from plantroom.wire.senml_record import (
    BN,
    BS,
    BT,
    BU,
    BV,
    BVER,
    EPOCH,
    MONO,
    SEQ,
    VB,
    VD,
    VS,
    N,
    S,
    T,
    U,
    V,
)
from tests.fakes.readings import HVAC, TAKEN_AT_US, hvac_reading, readings

TAKEN_AT_S = TAKEN_AT_US // 1_000_000


def pack(*records: Any) -> senml.Pack:
    return senml.decode(cbor.dumps(list(records)))


def head(seq: int = 0, **more: Any) -> dict[Any, Any]:
    return {BN: HVAC + "/", BT: TAKEN_AT_S, EPOCH: 7, SEQ: seq, N: "temperature", V: 21} | more


@given(st.lists(readings(), min_size=1, max_size=8))
def test_decode_is_the_inverse_of_encode(taken: list[Reading]) -> None:
    data = senml.encode(taken)
    found = senml.decode(data)
    assert found == senml.Pack(readings=tuple(taken))
    assert [r.hash() for r in found.readings] == [r.hash() for r in taken]
    assert senml.encode(found.readings) == data


def test_a_pack_is_senml_as_another_tool_reads_it() -> None:
    """Resolved by hand after RFC 8428 4.6: base values reach every record that follows."""
    records = cbor.loads(senml.encode([hvac_reading()]), bytes_max=10_000, error=PackError)
    assert records == [
        {BN: HVAC + "/", BT: TAKEN_AT_US / 1e6, EPOCH: 7, SEQ: 0, N: "fan_on", VB: True},
        {N: "power_mode", VS: "eco"},
        {N: "temperature", U: "Cel", V: 21.5},
    ]


# The fast path and the rules ---------------------------------------------------------------------

LABELS = [BN, BT, BU, BV, BS, BVER, N, U, V, VS, VB, S, T, EPOCH, SEQ, MONO, "x", "x_", 8, 99]
oddities = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-3, max_value=3),
    st.floats(),
    st.sampled_from([TAKEN_AT_S, 2**28, 2**28 - 1, 2**40, 2**53, 2**63, -(2**63), 1e300]),
    st.sampled_from(["", "/", HVAC + "/", HVAC, "temperature", "a/b", "Cel", "\u00e9", "x" * 1100]),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
)
records_of_any_kind = st.dictionaries(st.sampled_from(LABELS), oddities, max_size=6)


@st.composite
def nearly_ours(draw: st.DrawFn) -> list[Any]:
    """Our own form with a few entries changed, dropped, added or swapped."""
    taken = draw(st.lists(readings(), min_size=1, max_size=4))
    records: list[Any] = cbor.loads(senml.encode(taken), bytes_max=1 << 20, error=PackError)
    for _ in range(draw(st.integers(min_value=0, max_value=3))):
        at = draw(st.integers(min_value=0, max_value=len(records) - 1))
        record, label = dict(records[at]), draw(st.sampled_from(LABELS))
        if draw(st.booleans()):
            record[label] = draw(oddities)
        elif draw(st.booleans()):
            record.pop(label, None)
        else:
            other = draw(st.integers(min_value=0, max_value=len(records) - 1))
            records[at], records[other] = records[other], records[at]
            continue
        records[at] = record
    return records


@given(st.one_of(nearly_ours(), st.lists(records_of_any_kind, min_size=1, max_size=6)))
def test_the_fast_path_gives_what_the_rules_give_or_nothing(records: list[Any]) -> None:
    own = senml._own_form(records)
    if own is not None:
        judged = senml._any_form(records)
        assert senml.Pack(readings=tuple(map(Reading.from_plain, own))) == judged
        assert [cbor.dumps(plain) for plain in own] == [r.canonical() for r in judged.readings]


@given(st.lists(readings(), min_size=1, max_size=4))
def test_what_we_write_takes_the_fast_path(taken: list[Reading]) -> None:
    records = cbor.loads(senml.encode(taken), bytes_max=1 << 20, error=PackError)
    assert senml._own_form(records) == [reading.plain() for reading in taken]


# Hostile input -----------------------------------------------------------------------------------


@given(st.binary(max_size=120))
def test_any_bytes_give_a_pack_or_a_pack_error(data: bytes) -> None:
    try:
        found = senml.decode(data)
    except PackError as error:
        assert error.reason == "undecodable"  # noqa: PT017 -- either way is right
    else:
        assert found.readings or found.samples or found.bad or found == senml.Pack()


@given(st.lists(st.one_of(records_of_any_kind, oddities), max_size=6))
def test_any_records_give_a_pack_or_a_pack_error(records: list[Any]) -> None:
    try:
        found = pack(*records)
    except PackError as error:
        assert error.reason == "undecodable"  # noqa: PT017 -- either way is right
    else:
        for bad in found.bad:
            assert bad.reason
            assert bad.text
        for reading in found.readings:
            assert senml.decode(senml.encode([reading])).readings == (reading,)


@given(st.data())
def test_one_flipped_bit_never_makes_anything_but_a_pack_or_a_pack_error(
    data: st.DataObject,
) -> None:
    whole = bytearray(senml.encode([hvac_reading(0), hvac_reading(1)]))
    at = data.draw(st.integers(min_value=0, max_value=len(whole) * 8 - 1))
    whole[at // 8] ^= 1 << at % 8
    try:
        senml.decode(bytes(whole))
    except PackError as error:
        assert error.reason == "undecodable"  # noqa: PT017 -- either way is right


@pytest.mark.parametrize("cut", [1, 2, 20, 60, 90])
def test_a_truncated_pack_is_undecodable(cut: int) -> None:
    whole = senml.encode([hvac_reading()])
    with pytest.raises(PackError):
        senml.decode(whole[:-cut])
    with pytest.raises(PackError):
        senml.decode(whole + whole[:cut])


@pytest.mark.parametrize(
    "value", [{}, 1, "text", [], [1], [[]], ["ab"], [None], [[BN]], [{}] * (senml.RECORDS_MAX + 1)]
)
def test_what_is_no_array_of_records_is_undecodable(value: object) -> None:
    with pytest.raises(PackError):
        senml.decode(cbor.dumps(value))


def test_a_pack_beyond_the_limit_is_undecodable() -> None:
    with pytest.raises(PackError, match="the limit is"):
        senml.decode(bytes(senml.PACK_BYTES_MAX + 1))


def test_a_key_twice_in_a_record_makes_the_pack_undecodable() -> None:
    twice = b"\x81\xa3\x00\x61a\x02\x01\x02\x02"  # {n: "a", v: 1, v: 2}
    with pytest.raises(PackError):
        senml.decode(twice)


# One bad reading, the others go on ---------------------------------------------------------------

BAD = [
    ({V: math.nan}, "not-finite"),
    ({V: math.inf}, "not-finite"),
    ({V: 2**63}, "out-of-range"),
    ({V: "warm"}, "bad-value"),
    ({V: None}, "bad-value"),
    ({V: True}, "bad-value"),
    ({VS: "two values"}, "no-value"),
    ({N: "no such"}, "bad-name"),
    ({N: 7}, "bad-name"),
    ({N: ""}, "bad-name"),
    ({U: 7}, "bad-unit"),
    ({U: ""}, "bad-unit"),
    ({EPOCH: -1}, "out-of-range"),
    ({EPOCH: 1.0}, "out-of-range"),
    ({EPOCH: True}, "out-of-range"),
    ({SEQ: 2**53}, "out-of-range"),
    ({SEQ: "1"}, "out-of-range"),
    ({BT: "now"}, "bad-time"),
    ({BT: math.nan}, "out-of-range"),
    ({BT: 2**41}, "out-of-range"),
    ({BT: 5}, "no-time"),
    ({MONO: -1}, "out-of-range"),
    ({T: 1}, "time-offset"),
    ({BVER: 11}, "version"),
    ({"critical_": 1}, "unknown-label"),
    ({BV: "x"}, "bad-value"),
]


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_a_bad_reading_is_set_apart_alone(change: dict[Any, Any], reason: str) -> None:
    found = pack(head(0), head(1) | change, {BN: HVAC + "/", BV: 0, BVER: 10} | head(2))
    assert [bad.reason for bad in found.bad] == [reason]
    assert [reading.seq for reading in found.readings] == [0, 2]


def test_a_bad_reading_keeps_its_key_so_that_it_can_be_booked() -> None:
    (bad,) = pack(head(41) | {V: "warm"}).bad
    assert (bad.device, bad.epoch, bad.seq) == (HVAC, 7, 41)
    assert "type" in bad.text


def test_a_reading_with_half_a_key_is_bad() -> None:
    only_epoch = {label: value for label, value in head().items() if label != SEQ}
    (bad,) = pack(only_epoch).bad
    assert (bad.reason, bad.epoch, bad.seq) == ("no-key", 7, None)


def test_a_bad_second_point_makes_its_whole_reading_bad() -> None:
    found = pack(head(0), {N: "humidity", V: math.nan}, head(1))
    assert [bad.seq for bad in found.bad] == [0]
    assert [reading.seq for reading in found.readings] == [1]


def test_a_reading_with_a_point_twice_is_bad() -> None:
    found = pack(head(0), {N: "temperature", V: 22}, head(1))
    assert [(bad.seq, bad.reason) for bad in found.bad] == [(0, "duplicate-point")]


def test_a_numbered_reading_never_inherits_another_ones_time() -> None:
    without = {label: value for label, value in head(1).items() if label != BT}
    found = pack(head(0), without | {MONO: 5}, without | {SEQ: 2})
    assert [reading.time_us for reading in found.readings] == [TAKEN_AT_S * 1_000_000, None]
    assert [bad.reason for bad in found.bad] == ["no-time"]


# Packs of other makers ---------------------------------------------------------------------------


def sample(
    name: str,
    value: Any,
    *,
    unit: str | None = None,
    at_s: float | None = None,
    offset_s: float = 0,
) -> Sample:
    time_us = None if at_s is None else round(at_s * 1_000_000)
    points = (Point(name=name, unit=unit, value=value),)
    offset_us = round(offset_s * 1_000_000)
    return Sample(device=HVAC, time_us=time_us, offset_us=offset_us, points=points)


def test_a_pack_without_epoch_and_seq_gives_samples() -> None:
    found = pack(
        {BN: HVAC + "/", BT: TAKEN_AT_S, BU: "Cel", N: "a", V: 20}, {N: "b", U: "lx", V: 3}
    )
    points = (Point(name="a", unit="Cel", value=20), Point(name="b", unit="lx", value=3))
    assert found.readings == ()
    assert found.samples == (Sample(device=HVAC, time_us=TAKEN_AT_S * 1_000_000, points=points),)


def test_time_offsets_make_samples_of_their_own() -> None:
    """After RFC 8428 5.1.3: one point at several times, `t` before the base time."""
    found = pack(
        {BN: HVAC + "/", BT: TAKEN_AT_S, N: "current", T: -5, V: 1.2},
        {N: "current", T: -0.25, V: 1.3},
        {N: "current", V: 1.7},
    )
    assert found.samples == (
        sample("current", 1.2, at_s=TAKEN_AT_S - 5),
        sample("current", 1.3, at_s=TAKEN_AT_S - 0.25),
        sample("current", 1.7, at_s=TAKEN_AT_S),
    )


@pytest.mark.parametrize("seconds", [0, -30, 0.25, 2**28 - 1])
def test_a_relative_time_is_left_to_who_received_it(seconds: float) -> None:
    found = pack({BN: HVAC + "/", N: "a", T: seconds, V: 1})
    assert found.samples == (sample("a", 1, offset_s=seconds),)


def test_relative_times_make_samples_of_their_own() -> None:
    """After RFC 8428 5.1.2: one point at several times before now."""
    found = pack({BN: HVAC + "/", BT: -100, N: "a", V: 1}, {N: "a", T: 90, V: 2}, {N: "b", V: 3})
    assert [(one.offset_us // 1_000_000, len(one.points)) for one in found.samples] == [
        (-100, 2),
        (-10, 1),
    ]


@pytest.mark.parametrize("bad", [{VD: "aGk"}, {S: 5}, {V: math.nan}, {BVER: 11, V: 1}])
def test_a_bad_reading_without_a_key_is_set_apart_with_its_own_bytes(bad: dict[Any, Any]) -> None:
    base = {BN: HVAC + "/", BT: TAKEN_AT_S, BU: "Cel"}
    odd = {N: "b", T: 1} | bad
    records = [base | {N: "a", V: 1}, {N: "c", T: 1, V: 3}, odd, {N: "a", T: 2, V: 2}]
    if BVER in bad:
        records[-1] |= {BVER: 10}
    found = pack(*records)
    assert [one.time_us for one in found.samples] == [
        TAKEN_AT_S * 1_000_000,
        (TAKEN_AT_S + 2) * 1_000_000,
    ]
    (left,) = found.bad
    assert left.raw is not None
    again = senml.decode(left.raw)
    assert again.samples == ()
    assert [(one.reason, one.raw) for one in again.bad] == [(left.reason, left.raw)]


def test_what_was_set_apart_is_whole_once_its_rule_is_known() -> None:
    records = [{BN: HVAC + "/", BT: TAKEN_AT_S, BU: "Cel", N: "a", V: 1}, {N: "b", T: 1, VD: "aGk"}]
    (left,) = pack(*records).bad
    assert left.raw is not None
    mended = [
        {
            V if label == VD else label: 7 if label == VD else value
            for label, value in record.items()
        }
        for record in cbor.loads(left.raw, bytes_max=1000, error=PackError)
    ]
    assert pack(*mended).samples == (sample("b", 7, unit="Cel", at_s=TAKEN_AT_S + 1),)


@pytest.mark.parametrize(
    "records",
    [
        [{BN: "x/", BT: TAKEN_AT_S, "must_": 1}, {N: "a", V: 1}],
        [{BN: "x/", BT: TAKEN_AT_S, N: "a", V: 1}, {N: "b", T: 1, V: 1, "must_": 1}],
        [{BN: "x/", BT: TAKEN_AT_S, N: "a", V: 1}, {BN: "y/", "must_": 1}],
    ],
)
def test_a_label_that_has_to_be_understood_refuses_all_that_has_no_key(records: list[Any]) -> None:
    found = pack(*records, head(0))
    assert [one.seq for one in found.readings] == [0]
    assert found.samples == ()
    assert [bad.reason for bad in found.bad] == ["unknown-label"]


def test_a_label_that_has_to_be_understood_counts_in_a_record_without_a_value_too() -> None:
    first = {label: value for label, value in head(0).items() if label not in {N, V}}
    found = pack(first | {"must_": 1}, {N: "a", V: 1}, head(1))
    assert [(bad.reason, bad.seq) for bad in found.bad] == [("unknown-label", 0)]
    assert [one.seq for one in found.readings] == [1]


def test_the_smallest_absolute_time_is_absolute() -> None:
    (found,) = pack({BN: HVAC + "/", N: "a", T: 2**28, V: 1}).samples
    assert found.time_us == TIME_US_MIN


def test_base_values_are_added_and_alone_are_a_value() -> None:
    found = pack({BN: HVAC + "/", BT: TAKEN_AT_S, BV: 20, N: "a", V: 0.5}, {N: "b"})
    (one,) = found.samples
    assert [point.value for point in one.points] == [20.5, 20]


def test_two_devices_in_one_foreign_pack_stay_apart() -> None:
    found = pack({BN: "x/", BT: TAKEN_AT_S, N: "a", V: 1}, {BN: "y/", N: "a", V: 2})
    assert [(one.device, one.points[0].value) for one in found.samples] == [("x", 1), ("y", 2)]


def test_a_name_whole_in_n_gives_device_and_point() -> None:
    (found,) = pack({N: HVAC + "/temperature", BT: TAKEN_AT_S, V: 1}).samples
    assert (found.device, found.points[0].name) == (HVAC, "temperature")


def test_numbered_and_foreign_readings_may_share_a_pack() -> None:
    found = pack(head(0), {BN: "x/", BT: TAKEN_AT_S, N: "a", V: 1})
    assert len(found.readings) == 1
    assert [one.device for one in found.samples] == ["x"]


@given(st.integers(min_value=0, max_value=KEY_MAX), st.integers(min_value=0, max_value=KEY_MAX))
def test_every_key_survives(epoch: int, seq: int) -> None:
    reading = hvac_reading(0, epoch=epoch)
    moved = Reading.numbered(reading, epoch=epoch, seq=seq)
    assert senml.decode(senml.encode([moved])).readings == (moved,)
