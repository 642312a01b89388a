import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor, columns, envelope
from plantroom.wire.envelope import Batch
from plantroom.wire.errors import EnvelopeError, PackError
from plantroom.wire.reading import KEY_MAX, TIME_US_MAX, TIME_US_MIN, Point, Reading

DATA = Path(__file__).parents[3] / "shared" / "data"
HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
EPOCH = (1_785_000_000 << 20) + 4711

VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, True, False, 0.5, 23.18, 572.666666666667, "on", ""]),
    st.text(max_size=5),
)
POINTS = st.lists(
    st.builds(
        Point, name=st.sampled_from("abcdef"), unit=st.sampled_from([None, "Cel"]), value=VALUES
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda point: point.name,
).map(tuple)
TIMES = st.one_of(st.none(), st.integers(TIME_US_MIN, TIME_US_MAX), st.just(1_785_000_000_000_000))


@st.composite
def readings(draw: Any) -> Reading:
    time_us = draw(TIMES)
    mono = st.integers(0, KEY_MAX)
    return Reading(
        device=draw(st.sampled_from([HVAC, HVAC + "x", "", "\u00e9"])),
        time_us=time_us,
        mono_us=draw(mono if time_us is None else st.none() | mono),
        points=draw(POINTS),
        epoch=draw(st.sampled_from([0, EPOCH, KEY_MAX])),
        seq=draw(st.integers(0, 5) | st.integers(0, KEY_MAX)),
    )


def there_and_back(batch: list[Reading]) -> tuple[Reading, ...]:
    plain = cbor.dumps(columns.encode(batch))
    return columns.decode(cbor.loads(plain, bytes_max=1 << 22, error=ValueError))


def exact(batch: tuple[Reading, ...]) -> list[object]:
    """Tell 1, 1.0 and True apart, which compare as equal."""
    return [(r.canonical(), [type(p.value) for p in r.points]) for r in batch]


@given(st.lists(readings(), max_size=12))
def test_what_goes_in_comes_out_in_its_order(batch: list[Reading]) -> None:
    back = there_and_back(batch)
    assert back == tuple(batch)
    assert exact(back) == exact(tuple(batch))


def made(device: str, seq: int, value: float = 21.5, *, late_s: int = 0) -> Reading:
    return Reading(
        device=device,
        time_us=1_785_000_000_000_000 + (seq * 60 + late_s) * 1_000_000,
        points=(Point(name="temperature", unit="Cel", value=value),),
        epoch=EPOCH,
        seq=seq,
    )


def test_a_batch_of_none_is_one() -> None:
    assert there_and_back([]) == ()


def test_sensors_by_turns_cost_hardly_more_than_one_after_the_other() -> None:
    by_turns = [made(f"{HVAC}-{i}", seq) for seq in range(100) for i in range(5)]
    in_order = [made(f"{HVAC}-{i}", seq) for i in range(5) for seq in range(100)]
    assert there_and_back(by_turns) == tuple(by_turns)
    sizes = [len(envelope.encode(_batch(batch))) for batch in (by_turns, in_order)]
    assert sizes[0] <= sizes[1] + 50


def test_a_hundred_sensors_share_one_heading() -> None:
    batch = [made(f"{HVAC}-{i}", seq, late_s=i) for seq in range(5) for i in range(100)]
    rows = columns.encode(batch)
    assert len(rows[2]) == 1
    assert len(envelope.encode(_batch(batch))) <= 4 * len(batch)


def test_a_hole_in_seq_and_a_clock_that_steps_are_kept() -> None:
    batch = [made(HVAC, seq, late_s=-7000 * (seq > 50)) for seq in range(100) if seq % 7]
    assert there_and_back(batch) == tuple(batch)


# Hostile input -------------------------------------------------------------------------------


def row(**change: Any) -> list[Any]:
    table: dict[str, Any] = {
        "devices": [HVAC],
        "epochs": [5],
        "counts": [2],
        "seqs": [2, 0, [1]],
        "times": [1_785_000_000_000_000],
        "monos": None,
        "points": [["t", "Cel", 0]],
        "columns": [[0, 1, [21]]],
    }
    return [2, None, [list((table | change).values())]]


def test_a_table_by_hand_is_read() -> None:
    assert [(r.seq, r.points[0].value) for r in columns.decode(row())] == [(0, 21.0), (1, 21.0)]


@pytest.mark.parametrize(
    "rows",
    [
        None,
        b"",
        [],
        [0],
        [-1, None, []],
        [1, None, []],
        [columns.READINGS_MAX + 1, None, []],
        [2**63, None, []],
        [2, None, [[]]],
        [2, None, [5]],
        [2, [0], row()[2]],
        [2, [2, 1, [1]], row()[2]],
        [3, None, row()[2]],
        [1, None, row()[2]],
        row(devices=[]),
        row(devices=[], counts=[], epochs=[]),
        row(devices=[7]),
        row(devices=["x" * 600]),
        row(devices=[HVAC] * 3),
        row(devices=[HVAC] * 2, counts=[2, 0, [1]]),
        row(epochs=[-1]),
        row(epochs=[2**60]),
        row(counts=[0]),
        row(counts=[-1]),
        row(counts=[2**60]),
        row(counts=None),
        row(seqs=None),
        row(seqs=[-1]),
        row(seqs=[2**60]),
        row(times=None),
        row(times=[0]),
        row(times=[2**60]),
        row(monos=[-1]),
        row(points=[]),
        row(points=[], columns=[]),
        row(points=[["t", "Cel", 0]] * 2, columns=[[0, 1, [21]]] * 2),
        row(points=[["t", "", 0]]),
        row(points=[["", None, 0]]),
        row(points=[["t", 5, 0]]),
        row(points=[["t", None, 9]]),
        row(points=[["t", None]]),
        row(points=[["t", None, 3]], columns=[[["x" * 2000], [0]]]),
        row(points=[["t", None, 1]], columns=[[2**63]]),
        row(columns=[0]),
        row(columns=[-1]),
        row(columns=[[2, b"\x7f\x7f\xf0\xf0" + b"\x00" * 12]]),
        row(points=[["a", None, 0], ["b", None, 1]], columns=[[0, 1, [21]], 0]),
    ],
)
def test_another_form_is_refused(rows: Any) -> None:
    with pytest.raises(PackError):
        columns.decode(rows)


def test_a_few_bytes_cannot_ask_for_a_lot_of_memory() -> None:
    points = [[f"p{i:03d}", None, 0] for i in range(128)]
    rows = row(counts=[columns.READINGS_MAX], points=points, columns=[[0, 1, [7]], *[0] * 127])
    rows[0] = columns.READINGS_MAX
    assert len(cbor.dumps(rows)) < 2500
    with pytest.raises(PackError, match="too many points"):
        columns.decode(rows)


def test_a_batch_that_could_not_be_read_is_not_made() -> None:
    with pytest.raises(PackError, match="more than"):
        columns.encode([made(HVAC, 0)] * (columns.READINGS_MAX + 1))


JUNK: Any = st.recursive(
    st.one_of(st.integers(-2, 9), st.none(), st.text(max_size=3), st.binary(max_size=16)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=10,
)
FIELDS = ("devices", "epochs", "counts", "seqs", "times", "monos", "points", "columns")


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3), JUNK)
def test_anything_gives_readings_or_the_named_error(change: dict[str, Any], order: Any) -> None:
    rows = row(**change)
    for candidate in (rows, [rows[0], order, rows[2]], order):
        try:
            found = columns.decode(candidate)
        except PackError:
            continue
        assert all(isinstance(reading, Reading) for reading in found)


@given(st.binary(max_size=60), st.integers(0, 2000))
def test_a_damaged_batch_gives_readings_or_the_named_error(patch: bytes, at: int) -> None:
    whole = bytearray(cbor.dumps(columns.encode([made(HVAC, i, i / 7) for i in range(40)])))
    at %= len(whole)
    whole[at : at + len(patch)] = patch
    try:
        columns.decode(cbor.loads(bytes(whole), bytes_max=1 << 20, error=PackError))
    except PackError as error:
        assert error.what  # noqa: PT017 -- either way is right


def test_another_codec_of_the_body_is_refused_by_name() -> None:
    data = envelope.encode(_batch([made(HVAC, 0)]))
    table = cbor.loads(data, bytes_max=1 << 20, error=ValueError)
    assert "codec" not in table
    with pytest.raises(EnvelopeError, match="codec"):
        envelope.decode(cbor.dumps(table | {"codec": "zstd"}), Batch)


# Real rooms ------------------------------------------------------------------------------------


def _rooms(name: str) -> Iterator[list[str]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here: sizes on real readings are not checked")
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    yield header
    for cells in rows:
        yield cells[len(cells) - len(header) :]  # a row number that the header does not name


def _recorded(name: str, *, wanted: int) -> list[Reading]:
    header, *rows = _rooms(name)
    names = header[1 : 1 + wanted]
    return [
        Reading(
            device="spiffe://building-1.smart.local/agent/occupancy-001",
            time_us=int(datetime.fromisoformat(cells[0]).replace(tzinfo=UTC).timestamp()) * 10**6,
            epoch=EPOCH,
            seq=seq,
            points=tuple(
                Point(name=point, unit="1", value=float(cell))
                for point, cell in zip(names, cells[1:], strict=False)
            ),
        )
        for seq, cells in enumerate(rows)
    ]


def _batch(part: list[Reading]) -> Batch:
    return Batch(incarnation=2**52, number=1, lane="backfill", readings=tuple(part))


@pytest.mark.parametrize(
    ("name", "points", "bytes_max"),
    [
        ("occupancy-datatraining.csv", 6, 7.0),  # measured 6.8, 1.1 a value
        ("occupancy-datatest.csv", 6, 10.2),  # measured 10.0
        ("appliances-energy.csv", 29, 56.0),  # measured 53.9, 1.9 a value
    ],
)
def test_real_rooms_are_small_on_the_wire_and_exact_behind_it(
    name: str, points: int, bytes_max: float
) -> None:
    recorded = _recorded(name, wanted=points)
    total = 0
    for start in range(0, len(recorded), 500):
        part = recorded[start : start + 500]
        data = envelope.encode(_batch(part))
        total += len(data)
        back = envelope.decode(data, Batch).readings
        assert back == tuple(part)
        assert exact(back) == exact(tuple(part))
    assert len(recorded[0].points) == points
    assert total / len(recorded) <= bytes_max


def test_a_column_that_is_another_one_is_not_sent_again() -> None:
    recorded = _recorded("appliances-energy.csv", wanted=29)[:500]
    ((*_, headings, series),) = columns.encode(recorded)[2]
    names = [name for name, _, _ in headings]
    assert series[names.index("rv2")] == names.index("rv1")


def test_a_reading_alone_is_small_too() -> None:
    alone = [made(HVAC, 3)]
    assert len(cbor.dumps(columns.encode(alone))) <= 140
    assert there_and_back(alone) == tuple(alone)
