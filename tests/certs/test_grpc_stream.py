"""One gRPC call as bytes: cut anywhere, damaged, and ended by the server."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs.grpc_stream import ServerStream, frame
from plantroom.wire.errors import RefusedError, UnreachableError


def call() -> ServerStream:
    return ServerStream("/S/M", {"a": "b"})


def message(data: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(data)) + data


def trailers(status: str, text: str = "") -> bytes:
    def field(name: str, value: str) -> bytes:
        return b"\0" + b"".join(bytes((len(part),)) + part.encode() for part in (name, value))

    block = field("grpc-status", status) + field("grpc-message", text)
    return frame(1, 0x5, 1, block)


ANSWER = (
    frame(4, 0, 0)
    + frame(1, 0x4, 1, b"\x88")
    + frame(0, 0, 1, message(b"one") + message(b"two")[:6])
    + frame(6, 0, 0, b"12345678")
    + frame(0, 0x8, 1, b"\x02" + message(b"two")[6:] + b"\0\0")
    + trailers("0")
)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=6))
def test_messages_are_whole_however_the_bytes_are_cut(cuts: list[int]) -> None:
    stream, found, replies = call(), [], b""
    edges = [0, *sorted(cuts), len(ANSWER)]
    for start, end in itertools.pairwise(edges):
        messages, reply = stream.receive(ANSWER[start:end])
        found += messages
        replies += reply
    assert found == [b"one", b"two"]
    assert stream.ended
    assert frame(4, 1, 0) in replies
    assert frame(6, 1, 0, b"12345678") in replies


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        ("7", RefusedError, "permission-denied"),
        ("12", RefusedError, "unimplemented"),
        ("14", UnreachableError, None),
        ("nonsense", UnreachableError, None),
    ],
)
def test_the_servers_status_says_whether_it_refused(
    status: str, kind: type[Exception], reason: str | None
) -> None:
    with pytest.raises(kind, match="no identity issued") as caught:
        call().receive(trailers(status, "no%20identity issued"))
    assert getattr(caught.value, "reason", None) == reason


@pytest.mark.parametrize(
    "data",
    [
        frame(7, 0, 0, b"\0" * 8),
        frame(3, 0, 1, b"\0" * 4),
        b"\xff\xff\xff" + b"\0" * 6,
        frame(0, 0, 1, b"\1" + b"\0" * 4),
        frame(0, 0, 1, b"\0\xff\xff\xff\xff"),
        frame(0, 0x8, 1, b"\x09"),
        frame(1, 0x5, 1, b"\x88"),
    ],
)
def test_a_broken_connection_is_worth_another_try(data: bytes) -> None:
    with pytest.raises(UnreachableError):
        call().receive(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_named_error(data: bytes) -> None:
    stream = call()
    try:
        stream.receive(data)
    except (UnreachableError, RefusedError):
        return
    assert len(stream._data) <= 200
