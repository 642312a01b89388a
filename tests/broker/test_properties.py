from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker.codes import PacketType
from plantroom.broker.errors import MalformedError, PacketError, ProtocolError
from plantroom.broker.properties import ALLOWED, NONE, Property, encode, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PUBLISH = st.fixed_dictionaries(
    {},
    optional={
        Property.PAYLOAD_FORMAT: st.integers(0, 1),
        Property.MESSAGE_EXPIRY: st.integers(0, 2**32 - 1),
        Property.CONTENT_TYPE: TEXT,
        Property.RESPONSE_TOPIC: TEXT,
        Property.CORRELATION: st.binary(max_size=30),
        Property.TOPIC_ALIAS: st.integers(0, 65_535),
        Property.SUBSCRIPTION_ID: st.integers(1, 268_435_455),
        Property.USER: st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5).map(tuple),
    },
)


@given(PUBLISH)
def test_properties_are_parsed_as_they_were_encoded(properties: dict[int, Any]) -> None:
    data = encode(properties)
    assert parse(data, 0, len(data), PacketType.PUBLISH) == (properties, len(data))


@given(st.binary(max_size=60), st.sampled_from(sorted(ALLOWED)))
def test_any_bytes_give_properties_or_a_packet_error(data: bytes, kind: int) -> None:
    try:
        _, position = parse(data, 0, len(data), kind)
    except PacketError:
        return
    assert position <= len(data)


def test_no_properties_are_one_byte() -> None:
    assert encode(NONE) == b"\0"
    assert parse(b"\0", 0, 1, PacketType.PUBLISH) == ({}, 1)


@pytest.mark.parametrize(
    ("block", "error"),
    [
        (b"\x04\x01\x00\x01\x00", ProtocolError),  # twice
        (b"\x02\x01\x02", ProtocolError),  # neither 0 nor 1
        (b"\x02\x7f\x00", MalformedError),  # unknown
        (b"\x05\x11\0\0\0\0", MalformedError),  # session expiry is not for PUBLISH
        (b"\x02\x0b\x00", ProtocolError),  # subscription identifier 0
        (b"\x09\x01\x00", MalformedError),  # longer than the packet
        (b"\x02\x02\x00", MalformedError),  # cut short
    ],
)
def test_bad_block_is_named(block: bytes, error: type[PacketError]) -> None:
    with pytest.raises(error):
        parse(block, 0, len(block), PacketType.PUBLISH)


def test_user_properties_keep_their_order_and_may_repeat() -> None:
    properties: dict[int, Any] = {Property.USER: (("a", "1"), ("b", "2"), ("a", "3"))}
    data = encode(properties)
    assert parse(data, 0, len(data), PacketType.CONNECT)[0] == properties
