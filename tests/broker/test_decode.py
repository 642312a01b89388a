from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker import decode, encode
from plantroom.broker.codes import Code
from plantroom.broker.errors import LimitError, MalformedError, PacketError, ProtocolError
from plantroom.broker.packets import Disconnect, Ping, Publish, Subscribe
from tests.broker import harness
from tests.broker.test_properties import PUBLISH, TEXT

LIMIT = 1 << 20


def parse(data: bytes, version: int = 5) -> object:
    found = decode.frame(data, 0, packet_bytes_max=LIMIT, version=version)
    assert not isinstance(found, int)
    header, start, end = found
    assert end == len(data)
    return decode.packet(header, data, start, end, version)


@given(st.binary(max_size=100), st.sampled_from([4, 5]))
def test_any_bytes_give_a_packet_or_a_packet_error(data: bytes, version: int) -> None:
    position = 0
    try:
        while True:
            found = decode.frame(data, position, packet_bytes_max=LIMIT, version=version)
            if isinstance(found, int):
                assert found > len(data) - position
                return
            header, start, end = found
            decode.packet(header, data, start, end, version)
            position = end
    except PacketError:
        return


@given(st.binary(max_size=80))
def test_any_bytes_give_a_connect_or_a_packet_error(body: bytes) -> None:
    assert decode.peek_version(body, 0, len(body)) >= 0
    with suppress(PacketError):
        decode.connect(body, 0, len(body))


@given(
    st.builds(
        Publish,
        topic=TEXT.filter(bool),
        payload=st.binary(max_size=300),
        qos=st.integers(1, 2),
        retain=st.booleans(),
        dup=st.booleans(),
        packet_id=st.integers(1, 65_535),
        properties=PUBLISH.map(
            lambda p: {k: v for k, v in p.items() if k not in {0x0B, 0x23, 0x08}}
        ),
    )
)
def test_publish_is_decoded_as_it_was_encoded(message: Publish) -> None:
    assert parse(encode.publish(message, 5)) == message


@pytest.mark.parametrize("cut", range(1, 20))
def test_incomplete_packet_asks_for_more(cut: int) -> None:
    data = harness.publish("a/b", b"x" * 200)
    needed = decode.frame(data[:cut], 0, packet_bytes_max=LIMIT, version=5)
    assert isinstance(needed, int)
    assert cut < needed <= len(data)


def test_sizes_are_checked_before_the_body_is_there() -> None:
    with pytest.raises(LimitError) as caught:
        decode.frame(b"\x30\xff\xff\x7f", 0, packet_bytes_max=1000, version=5)
    assert caught.value.code == Code.PACKET_TOO_LARGE
    with pytest.raises(MalformedError):
        decode.frame(b"\x30\xff\xff\xff\xff", 0, packet_bytes_max=1000, version=5)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x36\x05\x00\x01a\x00\x01", MalformedError),  # QoS 3
        (b"\x38\x03\x00\x01a", MalformedError),  # DUP at QoS 0
        (b"\x32\x05\x00\x01a\x00\x00", ProtocolError),  # packet id 0
        (b"\x60\x02\x00\x01", MalformedError),  # PUBREL without its flags
        (b"\x80\x06\x00\x01\x00\x01a\x00", MalformedError),  # SUBSCRIBE without its flags
        (b"\x82\x02\x00\x01", ProtocolError),  # no filter
        (b"\x82\x06\x00\x01\x00\x01a\x03", MalformedError),  # QoS 3
        (b"\x82\x06\x00\x01\x00\x01a\x04", MalformedError),  # 3.1.1 has no no-local
        (b"\xa2\x02\x00\x01", ProtocolError),  # no filter
        (b"\xc0\x01\x00", MalformedError),  # PINGREQ with a body
        (b"\x00\x00", MalformedError),
        (b"\xa2\x04\x00\x01\x00\x00", MalformedError),  # an empty filter
        (b"\x82\x05\x00\x01\x00\x00\x00", MalformedError),
        (b"\x20\x00", ProtocolError),  # CONNACK from a client
        (b"\xf0\x00", MalformedError),  # AUTH in 3.1.1
    ],
)
def test_packet_that_breaks_a_rule_is_named(data: bytes, error: type[PacketError]) -> None:
    with pytest.raises(error):
        parse(data, 4)


def test_client_may_not_send_subscription_identifiers_or_alias_0() -> None:
    for block in (b"\x02\x0b\x01", b"\x03\x23\x00\x00", b"\x04\x08\x00\x01#"):
        with pytest.raises(ProtocolError):
            parse(harness.packet(0x30, b"\0\1a" + block), 5)


def test_small_packets() -> None:
    assert parse(b"\xc0\x00") == Ping()
    assert parse(b"\xe0\x00") == Disconnect(code=0, properties={})
    subscribe = parse(harness.subscribe(("a/#", 2 | 4 | 8 | 16), version=5))
    assert isinstance(subscribe, Subscribe)
    (request,) = subscribe.requests
    assert (request.qos, request.no_local, request.retain_as_published) == (2, True, True)
    assert request.retain_handling == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x04MQTT\x04\x01\x00\x00\x00\x01c",  # reserved flag
        b"\x00\x04MQTT\x04\x1c\x00\x00\x00\x01c\x00\x01a\x00\x00",  # will QoS 3
        b"\x00\x04MQTT\x04\x08\x00\x00\x00\x01c",  # will QoS without will
        b"\x00\x04MQTT\x04\x40\x00\x00\x00\x01c\x00\x00",  # password without user name
        b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01c\x00",  # bytes behind its end
    ],
)
def test_connect_that_breaks_a_rule_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode.connect(data, 0, len(data))
