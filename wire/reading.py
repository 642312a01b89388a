"""A reading: what one sensor measured at one moment, under a key that is never reused.

Source: the delivery rules in docs/architecture.md; names and units follow RFC 8428.
"""

import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from plantroom.wire import cbor
from plantroom.wire.errors import PackError

POINTS_MAX = 128
TEXT_BYTES_MAX = 1024
UNIT_CHARS_MAX = 32
KEY_MAX = 2**53 - 1  # exact in JSON and in a double
TIME_US_MIN = 2**28 * 1_000_000  # RFC 8428 4.5.3: smaller times are relative
TIME_US_MAX = 2**52 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
DEVICE_CHARS_MAX = 512

Value = float | int | str | bool
Plain = list[Any]  # [device, epoch, seq, time_us, mono_us, [[name, unit, value], …]]


def number(value: float) -> float | int:
    """Give a number its one form: a float where that is exact, an integer of 64 bits elsewhere.

    SenML does not tell 426 from 426.0, so neither may a hash.

    Raises:
        PackError: for NaN, infinities and integers beyond 64 bits.
    """
    if isinstance(value, int):
        if abs(value) <= KEY_MAX:
            return float(value)
        if -(2**63) <= value < 2**63:
            return value
        raise PackError("integer is beyond 64 bits", reason="out-of-range")
    if not math.isfinite(value):
        raise PackError("value is not finite", reason="not-finite")
    return value + 0.0  # -0.0 becomes 0.0


@lru_cache(maxsize=4096)  # a building has few names; only good ones, hence short ones, are kept
def check_label(name: str, unit: str | None) -> None:
    """Refuse a name or a unit that no point may have."""
    if not _NAME.fullmatch(name):
        raise PackError(f"bad point name {name[:80]!r}", reason="bad-name")
    if unit is not None and not 0 < len(unit) <= UNIT_CHARS_MAX:
        raise PackError(f"bad unit of {name}", reason="bad-unit")


def check_text(name: str, text: str) -> None:
    """Refuse a text that no point may have."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise PackError(f"text of {name} is not Unicode", reason="bad-value") from None
    if size > TEXT_BYTES_MAX:
        raise PackError(f"text of {name} is too long", reason="too-large")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured value: `name` (`temperature`), `unit` (SenML unit or None), `value`."""

    name: str
    unit: str | None
    value: Value

    def __post_init__(self) -> None:
        check_label(self.name, self.unit)
        if isinstance(self.value, str):
            check_text(self.name, self.value)
        elif not isinstance(self.value, bool):
            object.__setattr__(self, "value", number(self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was measured, not yet numbered.

    `device` is a SPIFFE ID as text (empty: the sender did not say). `time_us` is wall time in
    microseconds since 1970; None while the device's clock is not synchronised, and then `mono_us`,
    microseconds since its boot, says when; where it says neither, it was `offset_us` from its
    arrival. `points` are ordered by name, each name once.
    """

    device: str
    time_us: int | None
    mono_us: int | None = None
    offset_us: int = 0
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if len(self.device) > DEVICE_CHARS_MAX:
            raise PackError("device name is too long", reason="bad-name")
        if self.time_us is not None and not TIME_US_MIN <= self.time_us <= TIME_US_MAX:
            raise PackError(f"time {self.time_us} us is out of range", reason="out-of-range")
        if self.mono_us is not None and not 0 <= self.mono_us <= KEY_MAX:
            raise PackError(f"mono {self.mono_us} us is out of range", reason="out-of-range")
        if not 0 < len(self.points) <= POINTS_MAX:
            raise PackError(f"{len(self.points)} points, 1 to {POINTS_MAX} may be", reason="points")
        last = ""
        for point in self.points:
            if point.name <= last:
                break
            last = point.name
        else:
            return  # in order already, as our own packs are
        ordered = tuple(sorted(self.points, key=lambda point: point.name))
        if any(a.name == b.name for a, b in pairwise(ordered)):
            raise PackError("a point appears twice in one reading", reason="duplicate-point")
        object.__setattr__(self, "points", ordered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Sample):
    """A sample with its key `(device, epoch, seq)`; it never changes."""

    epoch: int
    seq: int

    def __post_init__(self) -> None:
        Sample.__post_init__(self)
        if not 0 <= self.epoch <= KEY_MAX or not 0 <= self.seq <= KEY_MAX:
            raise PackError("epoch or seq is out of range", reason="out-of-range")
        if self.time_us is None and self.mono_us is None:
            raise PackError("a reading has neither time nor mono", reason="no-time")

    @classmethod
    def numbered(cls, sample: Sample, *, epoch: int, seq: int) -> "Reading":
        """Give a sample its key."""
        return cls(
            device=sample.device,
            time_us=sample.time_us,
            mono_us=sample.mono_us,
            points=sample.points,
            epoch=epoch,
            seq=seq,
        )

    @classmethod
    def from_plain(cls, plain: Plain) -> "Reading":
        """Return the reading whose `plain()` this is.

        Raises:
            PackError: when it breaks a rule.
        """
        device, epoch, seq, time_us, mono_us, points = plain
        return cls(
            device=device,
            epoch=epoch,
            seq=seq,
            time_us=time_us,
            mono_us=mono_us,
            points=tuple(
                [Point(name=name, unit=unit, value=value) for name, unit, value in points]
            ),
        )

    def plain(self) -> Plain:
        """Return everything as plain values, in the one order that is hashed."""
        points = [[point.name, point.unit, point.value] for point in self.points]
        return [self.device, self.epoch, self.seq, self.time_us, self.mono_us, points]

    def canonical(self) -> bytes:
        """Return the deterministic CBOR that is hashed: everything, in one fixed form."""
        return cbor.dumps(self.plain())

    def hash(self) -> bytes:
        """Return the 32 bytes of SHA-256 over `canonical()`; two equal readings have equal ones."""
        return hashlib.sha256(self.canonical()).digest()
