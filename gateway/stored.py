"""Readings as the queue stores them: canonical CBOR back to values."""

from typing import Any

import cbor2

from plantroom.wire.reading import Point, Reading


def reading_from(body: bytes) -> Reading:
    """Return the reading whose `canonical()` is `body`; the queue only ever stores such bytes."""
    device, epoch, seq, time_us, mono_us, points = fields(body)
    return Reading(
        device=device,
        epoch=epoch,
        seq=seq,
        time_us=time_us,
        mono_us=mono_us,
        points=tuple(Point(name=name, unit=unit, value=value) for name, unit, value in points),
    )


def fields(body: bytes) -> Any:
    """Return `[device, epoch, seq, time_us, mono_us, [[name, unit, value], …]]`."""
    return cbor2.loads(body)
