import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor, series
from plantroom.wire.errors import PackError

DOUBLES = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
DECIMALS = st.builds(lambda n, k: n / 10**k, st.integers(-(10**15), 10**15), st.integers(0, 17))
MEANS = st.builds(
    lambda n, k: float(f"{n / k:.15g}"), st.integers(-(10**6), 10**6), st.integers(1, 3600)
)
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
NUMBERS = st.one_of(
    *(st.lists(one, min_size=1, max_size=50) for one in (DOUBLES, DECIMALS, MEANS, SINGLES)),
    st.lists(st.sampled_from([0.1, 1 / 3, 2.5e-300, 1e300]), min_size=1, max_size=50),
    st.lists(st.one_of(DOUBLES, DECIMALS, MEANS), min_size=1, max_size=50),
)


def there_and_back(kind: int, values: list[Any]) -> list[Any]:
    plain = cbor.loads(cbor.dumps(series.encode(kind, values)), bytes_max=1 << 20, error=ValueError)
    return list(series.decode(kind, plain, len(values)))


@given(NUMBERS)
def test_numbers_keep_every_bit(values: list[float]) -> None:
    back = there_and_back(series.NUMBER, values)
    assert [struct.pack(">d", value) for value in back] == [struct.pack(">d", v) for v in values]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_whole_numbers_stay_whole(values: list[int]) -> None:
    back = there_and_back(series.WHOLE, values)
    assert back == values
    assert all(type(value) is int for value in back)


@given(st.lists(st.booleans(), min_size=1))
def test_truths_stay_truths(values: list[bool]) -> None:
    back = there_and_back(series.TRUTH, values)
    assert back == values
    assert all(type(value) is bool for value in back)


@given(st.lists(st.text(max_size=9), min_size=1))
def test_text_stays_text(values: list[str]) -> None:
    assert there_and_back(series.TEXT, values) == values


RANDOM = random.Random(5)  # noqa: S311 - the same numbers in every run
NOISE = [RANDOM.random() for _ in range(400)]


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([round(20 + n, 2) for n in NOISE], series.SCALED),
        ([float(int(n * 900)) for n in NOISE], series.SCALED),
        ([n * 1000 // 1 * 1e9 for n in NOISE], series.SCALED),
        ([float(f"{int(n * 9000) / 300:.15g}") for n in NOISE], series.PRINTED),
        ([n * 1e-30 for n in NOISE], series.DOUBLES),
        ([struct.unpack("f", struct.pack("f", n))[0] * 2.0**-90 for n in NOISE], series.SINGLES),
        ([NOISE[i % 3] * 1e-30 for i in range(400)], series.KNOWN),
    ],
)
def test_the_form_fits_the_numbers(values: list[float], form: int) -> None:
    assert series.encode(series.NUMBER, values)[0] == form
    assert there_and_back(series.NUMBER, values) == values


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (series.NUMBER, None),
        (series.NUMBER, []),
        (series.NUMBER, [0, 0, [1]]),
        (series.NUMBER, [0, -1, [1]]),
        (series.NUMBER, [0, 1.5, [1]]),
        (series.NUMBER, [0, 1, "x"]),
        (series.NUMBER, [1, 10, [0, 1, 1, b""]]),
        (series.NUMBER, [0, 1, [2, 2**63, [0, 0, 2**64 - 1, b""]]]),
        (series.NUMBER, [2, b"1234567"]),
        (series.NUMBER, [3, b"1234567"]),
        (series.NUMBER, [4, 3, [2, b"x" * 24], [0]]),
        (series.NUMBER, [4, 0, [2, b""], [0]]),
        (series.NUMBER, [4, 1, [0, b"x" * 8], [0]]),
        (series.NUMBER, [4, 1, [[], b"x" * 8], [0]]),
        (series.NUMBER, [4, 1, [2, b"x" * 8], [1]]),
        (series.NUMBER, [[], 1, [1]]),
        (series.TRUTH, [2]),
        (series.TRUTH, [-1]),
        (series.TEXT, [["a"], [1]]),
        (series.TEXT, [["a"], [-1]]),
        (series.TEXT, [[], [0]]),
        (series.TEXT, [["a", "b", "c"], [0]]),
        (series.TEXT, [[1], [0]]),
        (series.TEXT, "ab"),
        (7, [0]),
        (-1, [0]),
    ],
)
def test_another_form_is_refused(kind: int, plain: object) -> None:
    with pytest.raises(PackError):
        series.decode(kind, plain, 2)


def test_a_number_beyond_a_double_is_refused() -> None:
    huge = [0, 2**63, 2**64 - 1, b"\xff" * 16]
    assert list(series.decode(series.NUMBER, [0, 1, huge], 2)) == [2.0**128] * 2
    with pytest.raises(PackError):
        series._unscaled(series.SCALED, 1, [10**400])
