"""Messages about updates for people and scripts: reports, requests, and the signed documents."""

from typing import Any

from plantroom.lab import ota_files
from plantroom.wire import ota_messages, shape, topics
from plantroom.wire.errors import TopicError, WireError
from plantroom.wire.ota_messages import Assign, ChunkStatus, Get, Report

_MESSAGES: dict[str, tuple[str, type[Any]]] = {
    "ota/{device}/state": ("update", Report),
    "ota/{device}/assign": ("assignment", Assign),
    "ota/{device}/get": ("request", Get),
}
_CHUNKS = ("ota/{device}/chunk/{n}", "fw/{digest}/{n}")
_DOCUMENTS = ("ota/trust/{n}", "ota/head", "ota/{class}/manifest")


def content(topic: str, payload: bytes) -> dict[str, Any] | None:
    """Return what a message on a topic of updates holds; None where it is none of them."""
    try:
        parsed = topics.parse(topic)
    except TopicError:
        return None
    if not payload or not parsed.pattern.startswith(("ota/", "fw/")):
        return None
    try:
        return _content(parsed, payload)
    except WireError as error:
        return {"kind": "unreadable", "error": str(error), "hex": payload.hex()}


def _content(parsed: topics.Topic, payload: bytes) -> dict[str, Any] | None:
    if parsed.pattern in _DOCUMENTS:
        told = ota_files.inspect(payload)
        return {"kind": told["kind"], told["kind"]: told}
    name, kind = _MESSAGES.get(parsed.pattern, ("", None))
    if parsed.pattern in _CHUNKS:
        if parsed.names[1] != ota_messages.STATUS:
            return {"kind": "chunk", "chunk": {"number": parsed.names[1], "bytes": len(payload)}}
        name, kind = "chunk status", ChunkStatus
    if kind is None:
        return None
    table = shape.to_plain(ota_messages.decode(payload, kind))
    plain = {key: part.hex() if isinstance(part, bytes) else part for key, part in table.items()}
    return {"kind": name, name: plain}
