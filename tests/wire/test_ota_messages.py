import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import cbor, ota_messages
from plantroom.wire.errors import EnvelopeError
from plantroom.wire.ota_messages import Assign, ChunkStatus, Get, Kind, Report

IMAGE = bytes(32)
MESSAGES: list[Kind] = [
    Get(image=IMAGE, chunk_bytes=16384, wanted=(0, 5, 9)),
    ChunkStatus(image=IMAGE, status="later", retry_s=2.5),
    Assign(version=3, order="install", campaign="c1", release=IMAGE, jitter_s=60),
    Report(number=1, state="WAITING", code="head"),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_read_as_it_was_written(message: Kind) -> None:
    assert ota_messages.decode(ota_messages.encode(message), type(message)) == message


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Get, {"v": 1, "image": b"", "chunk_bytes": 1, "wanted": [1]}),
        (Get, {"v": 1, "image": IMAGE, "chunk_bytes": 1, "wanted": []}),
        (Get, {"v": 1, "image": IMAGE, "chunk_bytes": 1, "wanted": [1] * 65}),
        (Get, {"v": 1, "image": IMAGE, "chunk_bytes": 0, "wanted": [1]}),
        (Get, {"v": 1, "image": IMAGE, "chunk_bytes": 1, "wanted": [-1]}),
        (Get, {"v": 2, "image": IMAGE, "chunk_bytes": 1, "wanted": [1]}),
        (ChunkStatus, {"v": 1, "image": IMAGE, "status": "perhaps"}),
        (Assign, {"v": 1, "version": "1", "order": "install"}),
        (Report, {"v": 1, "number": 1, "state": "HAPPY"}),
        (Report, {"v": 1, "number": 1, "state": "IDLE", "text": "x" * 501}),
        (Report, [1]),
    ],
)
def test_anything_else_is_refused(kind: type[Kind], table: object) -> None:
    with pytest.raises(EnvelopeError):
        ota_messages.decode(cbor.dumps(table), kind)


@given(st.binary(max_size=100), st.sampled_from([Get, ChunkStatus, Assign, Report]))
def test_any_bytes_give_a_message_or_a_named_error(data: bytes, kind: type[Kind]) -> None:
    try:
        assert isinstance(ota_messages.decode(data, kind), kind)
    except EnvelopeError:
        return
