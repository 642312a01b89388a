"""Readings to test with: one that is plain to read, and strategies for every one there may be."""

from hypothesis import strategies as st

from plantroom.wire.reading import KEY_MAX, TIME_US_MAX, TIME_US_MIN, Point, Reading, Value

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
TAKEN_AT_US = 1_763_820_000_123_456  # 2025-11-22T14:00:00.123456Z


def hvac_reading(seq: int = 0, *, epoch: int = 7, device: str = HVAC) -> Reading:
    return Reading(
        device=device,
        epoch=epoch,
        seq=seq,
        time_us=TAKEN_AT_US + seq * 60_000_000,
        points=(
            Point(name="fan_on", unit=None, value=True),
            Point(name="power_mode", unit=None, value="eco"),
            Point(name="temperature", unit="Cel", value=21.5 + seq % 10),
        ),
    )


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values: st.SearchStrategy[Value] = st.one_of(numbers, texts, st.booleans())
units = st.one_of(st.none(), st.sampled_from(["Cel", "%RH", "1/min", "lx", "ppm", "W", "kWh"]))
points = st.builds(Point, name=names, unit=units, value=values)
devices = st.sampled_from([HVAC, "spiffe://building-1.smart.local/agent/energy-001", "", "a/b"])
keys = st.integers(min_value=0, max_value=KEY_MAX)
times_us = st.integers(min_value=TIME_US_MIN, max_value=TIME_US_MAX)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    time_us = draw(st.one_of(st.none(), times_us))
    mono_us = draw(keys if time_us is None else st.one_of(st.none(), keys))
    return Reading(
        device=draw(devices),
        epoch=draw(keys),
        seq=draw(keys),
        time_us=time_us,
        mono_us=mono_us,
        points=tuple(
            draw(st.lists(points, min_size=1, max_size=6, unique_by=lambda point: point.name))
        ),
    )
