"""Readings as the queue stores them: canonical CBOR back to values."""

import cbor2

from plantroom.wire.reading import Plain, Reading


def reading_from(body: bytes) -> Reading:
    """Return the reading whose `canonical()` is `body`; the queue only ever stores such bytes."""
    return Reading.from_plain(fields(body))


def fields(body: bytes) -> Plain:
    """Return the plain values of such bytes."""
    plain: Plain = cbor2.loads(body)
    return plain
