"""A reading that somebody gives in a call, as plain values: `{device, time, points}`.

`points` maps names to values, or to `{value, unit}`: the form in which `read_sensors` shows one. It
may carry the `epoch` and `seq` that its sensor gave it; otherwise whoever takes it numbers it.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from plantroom.wire import cbor
from plantroom.wire.errors import EnvelopeError
from plantroom.wire.reading import Point, Reading, Sample
from plantroom.wire.rfc3339 import parse_us

_NAMES = ("device", "device_id")


def table_of(data: Any) -> Mapping[str, Any]:
    """Return the reading in a call's data: the data itself, or its `reading`.

    Raises:
        EnvelopeError: when it is not a map.
    """
    inner = data.get("reading", data) if isinstance(data, dict) else None
    if not isinstance(inner, dict):
        raise EnvelopeError("data is a map with points, and time and device where needed")
    return inner


def device_of(table: Mapping[str, Any], otherwise: str = "") -> str:
    """Return whose reading it says it is: a SPIFFE ID, or a name on topics."""
    named = next((table[name] for name in _NAMES if name in table), otherwise)
    if not isinstance(named, str) or not named:
        raise EnvelopeError("device is not named", where="device")
    return named


def sample_from(table: Mapping[str, Any], *, device: str, now_us: int) -> Sample:
    """Return the sample, a `Reading` where it is numbered; without a time it was taken now.

    Raises:
        EnvelopeError: naming the field that is wrong.
        PackError: when a value breaks a rule of readings.
    """
    points = table.get("points")
    if not isinstance(points, dict) or not points:
        raise EnvelopeError("data has no points", where="points")
    time = table.get("time")
    if time is not None and not isinstance(time, str):
        raise EnvelopeError("time is not RFC 3339 text", where="time")
    sample = Sample(
        device=device,
        time_us=now_us if time is None else parse_us(time),
        points=tuple(_point(name, value) for name, value in points.items()),
    )
    epoch, seq = table.get("epoch"), table.get("seq")
    if epoch is None and seq is None:
        return sample
    if type(epoch) is not int or type(seq) is not int:
        raise EnvelopeError("epoch and seq are whole numbers, both or neither", where="epoch")
    return Reading.numbered(sample, epoch=epoch, seq=seq)


def content_name(table: Mapping[str, Any], sample: Sample) -> bytes | None:
    """Return what the same content has in common however often it is given.

    None without a time: the same values at another moment are another reading.
    """
    if table.get("time") is None:
        return None
    points = [[point.name, point.unit, point.value] for point in sample.points]
    return sha256(cbor.dumps(["content", sample.device, sample.time_us, points])).digest()


def key_name(caller: str, key: str, index: int = 0) -> bytes:
    """Return what calls of one caller under one idempotency key have in common."""
    return sha256(cbor.dumps(["key", caller, key, index])).digest()


def _point(name: object, value: object) -> Point:
    unit: object = None
    if isinstance(value, dict):
        given: dict[str, object] = value
        value, unit = given.get("value"), given.get("unit")
    if not isinstance(name, str) or not isinstance(value, bool | int | float | str):
        raise EnvelopeError("a point is a number, text or truth, or {value, unit}", where=str(name))
    if unit is not None and not isinstance(unit, str):
        raise EnvelopeError("a unit is text", where=name)
    return Point(name=name, unit=unit, value=value)
