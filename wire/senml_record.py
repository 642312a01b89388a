"""What one record of a SenML pack says, its base values in it: names, unit, value, time.

Source: RFC 8428, sections 4.1 to 4.5.
"""

from typing import Any

from plantroom.wire.errors import PackError
from plantroom.wire.reading import TIME_US_MIN, Point

# RFC 8428, table 6: CBOR labels
BVER, BN, BT, BU, BV, BS = -1, -2, -3, -4, -5, -6
N, U, V, VS, VB, S, T, UT, VD = 0, 1, 2, 3, 4, 5, 6, 7, 8
EPOCH, SEQ, MONO = "epoch", "seq", "mono"
_VALUES = (V, VS, VB)
_VERSION_MAX = 10
SECONDS_MAX = 2**40


def not_understood(record: dict[Any, Any]) -> PackError | None:
    """Return what is wrong when a label has to be understood, and is not."""
    for label in record:
        if isinstance(label, str) and label.endswith("_"):  # RFC 8428 4.4
            return PackError(f"label {label[:40]} must be understood", reason="unknown-label")
    return None


def names(record: dict[Any, Any]) -> tuple[str, str]:
    """Return the names of the device and of the point.

    Raises:
        PackError: when they are not text.
    """
    prefix, name = record.get(BN, ""), record.get(N, "")
    if not isinstance(prefix, str) or not isinstance(name, str):
        raise PackError("a name is not text", reason="bad-name")
    device, _, point = (prefix + name).rpartition("/")
    return device, point


def point(record: dict[Any, Any]) -> Point:
    """Return the point with its value.

    Raises:
        PackError: naming the rule that it breaks.
    """
    version = record.get(BVER, _VERSION_MAX)
    if version != _VERSION_MAX:  # RFC 8428 4.4
        raise PackError(f"SenML version {version!r:.20} is not 10", reason="version")
    unit = record.get(U, record.get(BU))
    if unit is not None and not isinstance(unit, str):
        raise PackError("a unit is not text", reason="bad-unit")
    return Point(name=names(record)[1], unit=unit, value=_value(record))


def _value(record: dict[Any, Any]) -> float | str | bool:
    found = [label for label in (*_VALUES, VD, S) if label in record]
    if len(found) != 1 and not (not found and BV in record):
        raise PackError("a record has one of v, vs, vb", reason="no-value")
    label = found[0] if found else V
    value = record.get(label, 0)
    if label == V and isinstance(value, int | float) and not isinstance(value, bool):
        base = record.get(BV, 0)
        if isinstance(base, bool) or not isinstance(base, int | float):
            raise PackError("bv is not a number", reason="bad-value")
        return base + value if base else value
    if (label == VS and isinstance(value, str)) or (label == VB and isinstance(value, bool)):
        return value
    raise PackError("a value is not of its label's type", reason="bad-value")


def time_us(record: dict[Any, Any]) -> tuple[int, bool]:
    """Return when, and whether that is absolute: else it is relative (RFC 8428 4.5.3).

    Raises:
        PackError: when it is no time.
    """
    total = 0
    for label in (BT, T):
        seconds = record.get(label, 0)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise PackError("a time is not a number", reason="bad-time")
        if not -SECONDS_MAX < seconds < SECONDS_MAX:
            raise PackError("a time is out of range", reason="out-of-range")
        total += microseconds(seconds)
    if total < -TIME_US_MIN:
        raise PackError("a relative time is out of range", reason="out-of-range")
    return total, total >= TIME_US_MIN


def microseconds(seconds: float) -> int:
    """Return seconds since 1970 as whole microseconds."""
    whole = int(seconds)
    return whole * 1_000_000 + round((seconds - whole) * 1_000_000)
