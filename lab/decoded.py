"""Messages for people and scripts: what a payload says, as plain values and as readable lines."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from plantroom.lab import decoded_updates
from plantroom.wire import envelope, senml, shape
from plantroom.wire.errors import WireError
from plantroom.wire.link import Message
from plantroom.wire.reading import Reading, Sample
from plantroom.wire.rfc3339 import format_us

_PREVIEW_CHARS = 128
_BATCH_READINGS_SHOWN = 5
_CBOR_ARRAY, _CBOR_MAP = 4, 5


def plain(message: Message) -> dict[str, Any]:
    """Return topic and content as values that JSON can carry."""
    head: dict[str, Any] = {"topic": message.topic, "qos": message.qos, "retain": message.retain}
    if message.user:
        head["user"] = dict(message.user)
    return head | content(message.payload, message.topic)


def content(payload: bytes, topic: str = "") -> dict[str, Any]:
    """Return what a payload holds: readings, an envelope, JSON, text, or the bytes in hex."""
    if not payload:
        return {"kind": "empty"}
    update = decoded_updates.content(topic, payload)
    if update is not None:
        return update
    try:
        return _text(payload)
    except ValueError:
        pass
    try:
        major = payload[0] >> 5
        if major == _CBOR_ARRAY:
            return _pack(payload)
        if major == _CBOR_MAP:
            return _envelope(payload)
    except WireError as error:
        return {"kind": "unreadable", "error": str(error), "hex": payload.hex()}
    return {"kind": "bytes", "hex": payload.hex()}


def _text(payload: bytes) -> dict[str, Any]:
    text = payload.decode()
    if not text.isprintable():
        raise ValueError("not text")
    try:
        return {"kind": "json", "json": json.loads(text)}
    except ValueError:
        return {"kind": "text", "text": text}


def _pack(payload: bytes) -> dict[str, Any]:
    pack = senml.decode(payload)
    found: dict[str, Any] = {"kind": "readings", "readings": []}
    found["readings"] += [reading_plain(sample) for sample in (*pack.readings, *pack.samples)]
    if pack.bad:
        found["bad"] = [shape.to_plain(replace(bad, raw=None)) for bad in pack.bad]
    return found


def _envelope(payload: bytes) -> dict[str, Any]:
    kind = envelope.kind_of(payload)
    decoded = envelope.decode(payload, *(envelope.Batch, *_SMALL))
    if isinstance(decoded, envelope.Batch):
        table: dict[str, Any] = {
            "incarnation": decoded.incarnation,
            "number": decoded.number,
            "lane": decoded.lane,
            "readings": [reading_plain(reading) for reading in decoded.readings],
            "notes": [shape.to_plain(note) for note in decoded.notes],
        }
    else:
        table = shape.to_plain(decoded)
    return {"kind": kind, kind: _jsonable(table)}


_SMALL = (
    envelope.Receipt,
    envelope.Hello,
    envelope.Welcome,
    envelope.Refill,
    envelope.Call,
    envelope.Reply,
    envelope.Presence,
    envelope.Notes,
)


def reading_plain(sample: Sample) -> dict[str, Any]:
    """Return a reading as plain values; the time as RFC 3339 in UTC."""
    found: dict[str, Any] = {"device": sample.device.removesuffix("/")}
    if isinstance(sample, Reading):
        found |= {"epoch": sample.epoch, "seq": sample.seq}
    found["time"] = None if sample.time_us is None else format_us(sample.time_us)
    if sample.mono_us is not None:
        found["mono_us"] = sample.mono_us
    found["points"] = {
        point.name: {"value": point.value, "unit": point.unit} for point in sample.points
    }
    return found


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(part) for part in value]
    return value


def lines(message: Message) -> Iterator[str]:
    """Give readable lines: one for each reading, one for anything else."""
    head = f"{message.topic}{' (retained)' if message.retain else ''} "
    found = content(message.payload, message.topic)
    if found["kind"] != "readings":
        yield (head + _one_line(found)).rstrip()
        return
    for reading in found["readings"]:
        yield head + _reading_line(reading)
    for bad in found.get("bad", ()):
        yield f"{head}bad reading epoch={bad['epoch']} seq={bad['seq']} {bad['reason']}"


def _one_line(found: dict[str, Any]) -> str:
    kind = found["kind"]
    if kind == "batch":
        return _batch_line(found["batch"])
    if kind == "unreadable":
        return f"unreadable: {found['error']}: {found['hex'][:_PREVIEW_CHARS]}"
    if kind == "text":
        return str(found["text"])
    if kind in {"bytes", "empty"}:
        return f"{kind} {found.get('hex', '')[:_PREVIEW_CHARS]}"
    text = json.dumps(found[kind], ensure_ascii=False)
    return text if kind == "json" else f"{kind} {text}"


def _reading_line(reading: dict[str, Any]) -> str:
    key = f"epoch={reading['epoch']} seq={reading['seq']} " if "epoch" in reading else ""
    points = " ".join(
        f"{name}={_value(point['value'])}" + (f" {point['unit']}" if point["unit"] else "")
        for name, point in reading["points"].items()
    )
    return f"{reading['time'] or 'no time yet'} {key}{points}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _batch_line(batch: dict[str, Any]) -> str:
    devices = sorted({reading["device"].rpartition("/")[2] for reading in batch["readings"]})
    named = ", ".join(devices[:_BATCH_READINGS_SHOWN]) + (
        " …" if len(devices) > _BATCH_READINGS_SHOWN else ""
    )
    return (
        f"batch {batch['number']} {batch['lane']} readings={len(batch['readings'])} "
        f"notes={len(batch['notes'])} {named}"
    ).rstrip()
