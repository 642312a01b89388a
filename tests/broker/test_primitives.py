import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker.errors import MalformedError
from plantroom.broker.primitives import (
    VARINT_MAX,
    binary,
    read_binary,
    read_int,
    read_text,
    read_varint,
    text,
    varint,
)


@given(st.integers(0, VARINT_MAX))
def test_varint_is_read_as_it_was_written(value: int) -> None:
    data = varint(value)
    assert read_varint(data, 0, len(data)) == (value, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\x01"])
def test_bad_varint_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_varint(data, 0, len(data))


def test_numbers_and_fields_beyond_their_range_are_malformed() -> None:
    with pytest.raises(MalformedError):
        varint(VARINT_MAX + 1)
    with pytest.raises(MalformedError):
        binary(bytes(65_536))
    with pytest.raises(MalformedError):
        read_int(b"\0", 0, 1, 2)


@given(st.binary(max_size=300))
def test_binary_is_read_as_it_was_written(value: bytes) -> None:
    data = binary(value)
    assert read_binary(data, 0, len(data)) == (value, len(data))
    with pytest.raises(MalformedError):
        read_binary(data, 0, len(data) - 1)


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"a\0b", b"\xc0\x80"])
def test_text_that_mqtt_forbids_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        text(raw)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50))
def test_text_is_read_as_it_was_written(value: str) -> None:
    data = binary(value.encode())
    assert read_text(data, 0, len(data)) == (value, len(data))
