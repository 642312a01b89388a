from hypothesis import given
from hypothesis import strategies as st

from plantroom.views.history import thin

numbers = st.floats(-1e6, 1e6)
rows = st.lists(st.tuples(st.integers(0, 10**9), numbers), max_size=400).map(
    lambda found: sorted(found, key=lambda row: row[0])
)


@given(rows, st.integers(4, 60))
def test_thinned_rows_are_real_ordered_bounded_and_keep_ends_and_extremes(
    found: list[tuple[int, float]], points_max: int
) -> None:
    samples, count = thin(iter(found), points_max)
    assert count == len(found)
    assert set(samples) <= set(found)
    assert [time for time, _ in samples] == sorted(time for time, _ in samples)
    assert len(samples) <= max(points_max + 2, 4) or len(samples) <= len(found) <= points_max
    if found:
        assert samples[0] == found[0]
        assert samples[-1] == found[-1]
        values = [value for _, value in samples]
        assert min(values) == min(value for _, value in found)
        assert max(values) == max(value for _, value in found)


def test_few_rows_stay_as_they_are() -> None:
    found = [(n, float(n % 7)) for n in range(100)]
    assert thin(found, 1000) == (tuple(found), 100)


def test_text_keeps_its_changes_and_its_end() -> None:
    found = [(n, "on" if n // 10 % 2 else "off") for n in range(1000)]
    samples, count = thin(found, 500)
    assert count == 1000
    assert [time for time, _ in samples] == [*range(0, 1000, 10), 999]


def test_too_many_changes_keep_the_newest() -> None:
    found = [(n, bool(n % 2)) for n in range(10_000)]
    samples, _ = thin(found, 100)
    assert len(samples) <= 101
    assert samples[-1] == (9999, True)
