"""CBOR: the same bytes for the same value, and nothing but our form comes in."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor
from plantroom.wire.errors import PackError

plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(min_value=-(2**64), max_value=2**64 - 1),
        st.floats(allow_nan=False),
        st.binary(max_size=20),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    ),
    max_leaves=12,
)


def loads(data: bytes, bytes_max: int = 1 << 20) -> object:
    return cbor.loads(data, bytes_max=bytes_max, error=PackError)


@given(plain)
def test_loads_is_the_inverse_of_dumps(value: object) -> None:
    assert loads(cbor.dumps(value)) == value


@given(st.dictionaries(st.integers(), st.integers(), max_size=8))
def test_dumps_does_not_depend_on_the_order_of_keys(table: dict[int, int]) -> None:
    assert cbor.dumps(table) == cbor.dumps(dict(reversed(table.items())))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_the_callers_error(data: bytes) -> None:
    with contextlib.suppress(PackError):  # anything else fails the test
        loads(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing at all"),
        (b"\x01\x02", "bytes behind the end"),
        (b"\xa2\x61a\x01\x61a\x02", "a key twice"),
        (b"\x9f\x01\xff", "an array of indefinite length"),
        (b"\x5f\x41a\xff", "bytes of indefinite length"),
        (b"\x81" * 40 + b"\x01", "too deep"),
        (b"\x81" * 5000, "far too deep and cut off"),
        (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "an array longer than memory"),
        (b"\x5b\x00\x00\x00\x7f\xff\xff\xff\xff", "bytes longer than memory"),
        (b"\x61\xff", "text that is not UTF-8"),
        (b"\x1c", "a reserved length"),
        (b"\xff", "a break without a beginning"),
    ],
)
def test_what_is_not_our_form_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(PackError):
        loads(data)
    assert why


def test_size_is_checked_before_anything_is_read() -> None:
    with pytest.raises(PackError, match="6 bytes, the limit is 5"):
        loads(b"\x45abcde", bytes_max=5)


def test_a_shared_reference_cannot_make_a_loop() -> None:
    cycle = b"\xd8\x1c\x81\xd8\x1d\x00"  # tag 28 an array that holds tag 29, itself
    with pytest.raises(PackError):
        loads(cycle)


@pytest.mark.parametrize(
    ("inner", "count"),
    [(b"\x00", 70_000), (b"\x61a", 300), (b"\x41a", 300), (b"\x82\x00\x01", 300)],
)
def test_no_tag_is_accepted_whatever_it_holds(inner: bytes, count: int) -> None:
    for tag in [*range(count), 2**32, 2**64 - 1]:
        data = b"\xdb" + tag.to_bytes(8, "big") + inner
        with pytest.raises(PackError):
            loads(data)


@pytest.mark.parametrize("item", [b"\x00", b"\x80", b"\xa0", b"\xf4"])
def test_more_items_than_memory_is_for_are_refused(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 5 kB, unpacked, would be an array of 32 million arrays: 2 GB of them."""
    monkeypatch.setattr(cbor, "ITEMS_MAX", 1000)
    data = [b"\x99" + count.to_bytes(2, "big") + item * count for count in (999, 1000)]
    assert loads(data[0])
    with pytest.raises(PackError, match="more than 1000 items"):
        loads(data[1])


def test_long_strings_are_few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cbor, "ITEMS_MAX", 10)
    value = [b"x" * 70_000, "y" * 300, {"z" * 20: -(2**63)}, 1.5]
    assert loads(cbor.dumps(value)) == value
    with pytest.raises(PackError):
        loads(cbor.dumps(value)[:-1])
