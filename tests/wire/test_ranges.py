"""Ranges against a plain set of integers: whatever is done to both, they hold the same."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire.ranges import RangeSet, runs
from plantroom.wire.reading import KEY_MAX

spans = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair)))
steps = st.lists(st.tuples(st.sampled_from(["add", "discard"]), spans), max_size=30)


def members(ranges: RangeSet) -> set[int]:
    return {member for first, last in ranges for member in range(first, last + 1)}


@given(steps, st.lists(spans, max_size=5))
def test_any_history_holds_what_a_set_would(
    history: list[tuple[str, tuple[int, int]]], asked: list[tuple[int, int]]
) -> None:
    ranges, oracle = RangeSet(), set[int]()
    for act, (first, last) in history:
        getattr(ranges, act)(first, last)
        whole = set(range(first, last + 1))
        oracle = oracle | whole if act == "add" else oracle - whole
    assert members(ranges) == oracle
    assert ranges.count == len(oracle)
    assert bool(ranges) == bool(oracle)
    assert (ranges.lowest, ranges.highest) == (min(oracle, default=None), max(oracle, default=None))
    for first, last in asked:
        assert ranges.covers(first, last) == (set(range(first, last + 1)) <= oracle)
        assert (first in ranges) == (first in oracle)
        assert members(ranges.holes(last)) == set(range(last + 1)) - oracle


@given(steps)
def test_ranges_are_sorted_disjoint_and_never_touch(
    history: list[tuple[str, tuple[int, int]]],
) -> None:
    ranges = RangeSet()
    for act, span in history:
        getattr(ranges, act)(*span)
    listed = list(ranges)
    for (_, last), (first, _) in pairwise(listed):
        assert last + 1 < first
    assert RangeSet(reversed(listed)) == ranges


@given(steps)
def test_a_copy_is_independent(history: list[tuple[str, tuple[int, int]]]) -> None:
    ranges = RangeSet([(0, 5), (9, 9)])
    other = ranges.copy()
    for act, span in history:
        getattr(other, act)(*span)
    assert list(ranges) == [(0, 5), (9, 9)]


@pytest.mark.parametrize(("first", "last"), [(-1, 5), (5, 4), (-3, -1)])
def test_what_is_no_range_is_refused_and_changes_nothing(first: int, last: int) -> None:
    ranges = RangeSet([(3, 4)])
    for act in (ranges.add, ranges.discard):
        with pytest.raises(ValueError, match="not a range"):
            act(first, last)
    assert list(ranges) == [(3, 4)]


def test_one_number_is_a_range() -> None:
    ranges = RangeSet()
    ranges.add(0)
    ranges.add(2)
    ranges.discard(0)
    assert list(ranges) == [(2, 2)]
    assert repr(ranges) == "RangeSet([(2, 2)])"


def test_there_are_no_holes_below_zero() -> None:
    assert not RangeSet().holes(-1)


def test_a_range_may_be_changed_while_it_is_walked() -> None:
    ranges = RangeSet([(0, 1), (5, 6)])
    for first, last in ranges:
        ranges.discard(first, last)
    assert not ranges


@given(st.sets(st.integers(0, 60)))
def test_runs_are_the_members_in_as_few_ranges_as_possible(taken: set[int]) -> None:
    found = list(runs(sorted(taken)))
    assert {n for a, b in found for n in range(a, b + 1)} == taken
    assert all(second[0] > first[1] + 1 for first, second in pairwise(found))


def test_a_range_of_all_numbers_costs_what_one_number_costs() -> None:
    """A list asks for the length first and makes room for it: it has none."""
    everything = RangeSet([(0, KEY_MAX)])
    assert list(everything) == [(0, KEY_MAX)]
    assert everything.count == KEY_MAX + 1
    assert everything.holes(KEY_MAX) == RangeSet()
