import json

import pytest

from plantroom.lab import decoded, decoded_updates
from plantroom.wire import ota_messages
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import Assign, ChunkStatus, Get, Report
from tests.fakes.ota_author import Author

BASE = "v1/building-1/ota/"
AUTHOR = Author()
MANIFEST = AUTHOR.manifest()
IMAGE = bytes(32)


@pytest.mark.parametrize(
    ("topic", "payload", "kind"),
    [
        ("hvac-001/state", ota_messages.encode(Report(number=1, state="UPDATED")), "update"),
        ("hvac-001/assign", ota_messages.encode(Assign(version=1, order="none")), "assignment"),
        (
            "hvac-001/get",
            ota_messages.encode(Get(image=IMAGE, chunk_bytes=1024, wanted=(1,))),
            "request",
        ),
        (
            "hvac-001/chunk/status",
            ota_messages.encode(ChunkStatus(image=IMAGE, status="gone")),
            "chunk status",
        ),
        ("hvac-001/chunk/7", b"\xa0 data", "chunk"),
        ("hvac/manifest", MANIFEST, "manifest"),
        ("head", AUTHOR.head(1, [MANIFEST]), "head"),
        ("trust/1", AUTHOR.trust(), "trust"),
        ("hvac-001/state", b"\xa0", "unreadable"),
        ("head", b"text that is no head", "unreadable"),
    ],
)
def test_everything_about_updates_is_told(topic: str, payload: bytes, kind: str) -> None:
    found = decoded_updates.content(BASE + topic, payload)
    assert found is not None
    assert found["kind"] == kind
    assert json.dumps(found)
    (line,) = decoded.lines(Message(topic=BASE + topic, payload=payload))
    assert line.startswith(f"{BASE}{topic} {kind}")


def test_a_broadcast_chunk_is_its_size() -> None:
    found = decoded_updates.content("v1/building-1/fw/ab/3", bytes(99))
    assert found == {"kind": "chunk", "chunk": {"number": "3", "bytes": 99}}


@pytest.mark.parametrize("topic", ["", "x", "v1/building-1/telemetry/d", f"{BASE}head"])
def test_anything_else_is_left_to_others(topic: str) -> None:
    assert decoded_updates.content(topic, b"") is None
    if topic != f"{BASE}head":
        assert decoded_updates.content(topic, b"x") is None
