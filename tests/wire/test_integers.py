import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor, integers
from plantroom.wire.errors import PackError

SIGNED = st.integers(-(2**63), 2**63 - 1)
LISTS = st.one_of(
    st.lists(SIGNED),
    st.lists(st.integers(0, 3), max_size=200),
    st.lists(st.sampled_from([-(2**63), 0, 5, 2**63 - 1]), max_size=60),
    st.lists(st.integers(-100, 100).map(lambda n: n * 60_000_000), max_size=60),
    st.builds(lambda first, n: list(range(first, first + n)), st.integers(0, 2**53), st.just(90)),
)


def through_cbor(plain: object) -> Any:
    return cbor.loads(cbor.dumps(plain), bytes_max=1 << 20, error=ValueError)


@given(LISTS)
def test_what_goes_in_comes_out(values: list[int]) -> None:
    plain = through_cbor(integers.encode(values))
    assert integers.decode(plain, len(values)) == values


def _regular(step: int, noise: int) -> list[int]:
    random_ = random.Random(7)  # noqa: S311 - the same numbers in every run
    return [i * step + random_.randint(0, noise) for i in range(500)]


@pytest.mark.parametrize(
    ("values", "bytes_max"),
    [
        ([7] * 500, 6),
        (list(range(1000, 1500)), 12),  # no hole: a seq
        ([1_785_000_000_000_000 + i * 60_000_000 for i in range(500)], 24),  # one a minute
        ([0, 1] * 250, 75),
        (_regular(1000, 15), 330),  # 4 bits of noise, and one more from the difference
        (_regular(0, 2**20 - 1), 20 * 500 // 8 + 24),  # noise: its own 20 bits each, no more
        ([(5, 2**40, -3)[i * i % 3] for i in range(500)], 175),
    ],
)
def test_the_form_fits_the_numbers(values: list[int], bytes_max: int) -> None:
    assert integers.smallest(values)[0] <= bytes_max
    assert integers.decode(integers.encode(values), len(values)) == values


def _forms(plain: list[Any]) -> set[int]:
    inner = [_forms(part) for part in plain if isinstance(part, list)]
    return set().union(*inner, {plain[0]} if len(plain) > 1 else set())


def test_every_form_is_chosen_for_something() -> None:
    noise = _regular(0, 2**20 - 1)
    some = [noise, [noise[i * i % 9] for i in range(500)], [i * i for i in range(500)]]
    assert set().union(*map(_forms, map(integers.encode, some))) == {
        integers.PLANES,
        integers.BITS,
        integers.DELTAS,
        integers.KNOWN,
    }


@pytest.mark.parametrize(
    ("plain", "count"),
    [
        (None, 1),
        ([], 1),
        ([1], -1),
        ([True], 1),
        (["1"], 1),
        ([1.0], 1),
        ([0, 0, 1, b""], 0),
        ([0, 0, 1, b"123"], 2),
        ([0, 0, 1, b"x" * 18], 2),
        ([0, 0.5, 1, b"1"], 1),
        ([0, 0, None, b"1"], 1),
        ([1, 0, 1, 4, b"\x00"], 3),
        ([1, 0, 1, 0, b""], 3),
        ([1, 0, 1, -1, b""], 3),
        ([1, 0, 1, 65, b"\x00" * 9], 1),
        ([1, 0, 1, 4, b""], 0),
        ([2, 5, [1]], 0),
        ([2, 5, [2, 5, [1]]], 3),  # differences of differences: not a form
        ([2, 5, [0, 0, 1, b"12"]], 4),
        ([3, 0, [], [0]], 2),
        ([3, 3, [1], [0]], 2),
        ([3, 1, [1], [1]], 2),
        ([3, 1, [1], [-1]], 2),
        ([3, 2, [3, 1, [1], [0]], [0]], 2),
        ([9, 0, 1, b"1"], 1),
    ],
)
def test_another_form_is_refused(plain: object, count: int) -> None:
    with pytest.raises(PackError):
        integers.decode(plain, count) if count >= 0 else integers.decode("x", 0)


JUNK: Any = st.recursive(
    st.one_of(
        st.integers(-3, 70), st.integers(-(2**64), 2**64 - 1), st.binary(max_size=40), st.none()
    ),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)


@given(JUNK, st.integers(0, 40))
def test_anything_gives_integers_or_the_named_error(plain: Any, count: int) -> None:
    try:
        found = integers.decode(plain, count)
    except PackError:
        return
    assert len(found) == count
    assert all(type(value) is int for value in found)
