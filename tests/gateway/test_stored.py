from hypothesis import given
from hypothesis import strategies as st

from plantroom.gateway.stored import fields, reading_from
from plantroom.wire.reading import Point, Reading

VALUES = st.one_of(
    st.booleans(),
    st.text(max_size=20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
)


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), VALUES, min_size=1, max_size=4),
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**53 - 1),
)
def test_a_stored_reading_comes_back_with_the_same_hash(
    points: dict[str, bool | str | float | int], epoch: int, seq: int
) -> None:
    reading = Reading(
        device="spiffe://d/agent/x",
        time_us=None,
        mono_us=5,
        points=tuple(Point(name=name, unit=None, value=value) for name, value in points.items()),
        epoch=epoch,
        seq=seq,
    )
    again = reading_from(reading.canonical())
    assert again == reading
    assert again.hash() == reading.hash()
    assert fields(reading.canonical())[1:3] == [epoch, seq]
