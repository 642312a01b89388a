"""The values of one point over many readings, in the smallest of several exact forms.

Numbers, to the last bit of a double:

`[0, scale, integers]`          integer / scale: decimals (`23.18`) and whole numbers
`[1, scale, integers]`          the same to 15 significant digits, which is how spreadsheets
                                and R write a mean (`572.666666666667` is 1718 / 3)
`[2, planes]`                   doubles, byte by byte: the first bytes of all, then the second …
`[3, planes]`                   the same in single precision, for sensors that measure so
`[4, n, doubles, integers]`     n known doubles (form 2 or 3), and which of them each value is

Integers beyond a double's 53 bits and booleans are lists of integers; text is `[texts, integers]`.
"""

import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from typing import Any

from plantroom.wire import integers
from plantroom.wire.errors import PackError
from plantroom.wire.reading import Value

NUMBER, WHOLE, TRUTH, TEXT = range(4)
KINDS: dict[type, int] = {float: NUMBER, int: WHOLE, bool: TRUTH, str: TEXT}
SCALED, PRINTED, DOUBLES, SINGLES, KNOWN = range(5)
_PLACES_MAX = 19  # 10 ** 19 is the last power of ten in 64 bits: beyond, CBOR needs a tag
_PLACES_OF_FRACTIONS = 8  # more decimal places than this are hardly a sensor's own
_SCALE_MAX = 1_000_000
_DENOMINATOR_MAX = 3_600
_EXACT_BELOW = 2**53
_LETTERS = {DOUBLES: "d", SINGLES: "f"}


def encode(kind: int, values: Sequence[Any]) -> Any:
    """Encode values of one kind; `decode` gives the same ones back."""
    if kind == NUMBER:
        return _smallest_numbers(values)
    if kind == TEXT:
        texts = sorted(set(values))
        index = {text: i for i, text in enumerate(texts)}
        return [texts, integers.encode([index[text] for text in values])]
    return integers.encode([int(value) for value in values])


def decode(kind: int, plain: Any, count: int) -> Sequence[Value]:
    """Decode `count` values; their range is for the caller to check.

    Raises:
        PackError: when `plain` is not of a form of this kind.
    """
    if kind == NUMBER:
        return _numbers(plain, count)
    if kind == TEXT:
        return _texts(plain, count)
    found = integers.decode(plain, count)
    if kind == WHOLE:
        return found
    if kind != TRUTH or not set(found) <= {0, 1}:
        raise PackError("a truth is 0 or 1")
    return [value == 1 for value in found]


def _texts(plain: Any, count: int) -> list[Value]:
    match plain:
        case [list(texts), indexes] if len(texts) <= count:
            found = integers.decode(indexes, count)
            if not all(isinstance(text, str) for text in texts):
                raise PackError("a text is not text")
            return [texts[i] for i in _within(found, len(texts))]
    raise PackError("texts of no known form")


def _within(indexes: list[int], number: int) -> list[int]:
    if indexes and not 0 <= min(indexes) <= max(indexes) < number:
        raise PackError("an index beyond the known values")
    return indexes


def _smallest_numbers(values: Sequence[float]) -> Any:
    known = list(dict.fromkeys(values))
    forms = []
    for form, scale, scaled in _scalings(known):
        size, plain = integers.smallest([scaled[value] for value in values])
        forms.append((size, [form, scale, plain]))
    if not forms or min(size for size, _ in forms) > 4 * len(values):
        forms.append(_binary(values))
        if 2 * len(known) <= len(values):
            index = {value: i for i, value in enumerate(known)}
            table_size, table = _binary(known)
            size, plain = integers.smallest([index[value] for value in values])
            forms.append((table_size + size, [KNOWN, len(known), table, plain]))
    return min(forms, key=lambda form: form[0])[1]


def _scalings(known: Sequence[float]) -> list[tuple[int, int, dict[float, int]]]:
    """Return the scales at which all of the numbers are integers, each with those integers."""
    found = []
    places = max(map(_decimal_places, known))
    if places <= _PLACES_MAX and max(map(abs, known)) * 10**places < _EXACT_BELOW:
        scale = 10**places
        scaled = {value: round(value * scale) for value in known}
        if all(n / scale == value for value, n in scaled.items()):
            found.append((SCALED, scale, scaled))
    if places > _PLACES_OF_FRACTIONS:
        scale = _common_scale(known)
        if scale:
            found.append((PRINTED, scale, {value: round(value * scale) for value in known}))
    return found


def _decimal_places(value: float) -> int:
    mantissa, _, exponent = repr(value).partition("e")
    decimals = mantissa.partition(".")[2]
    own = 0 if decimals == "0" else len(decimals)
    return max(0, own - int(exponent or 0))


def _common_scale(known: Sequence[float]) -> int:
    """Grow a scale until every number is an integer over it; 0 where none does.

    What one scale makes an integer, its multiples do too, so one pass over the numbers is enough.
    """
    scale = 1
    for value in known:
        if not _is_printed(value, scale):
            scale = lcm(scale, Fraction(value).limit_denominator(_DENOMINATOR_MAX).denominator)
            if scale > _SCALE_MAX or not _is_printed(value, scale):
                return 0
    return scale


def _is_printed(value: float, scale: int) -> bool:
    scaled = value * scale
    return abs(scaled) < _EXACT_BELOW and _printed(round(scaled), scale) == value


def _printed(whole: int, scale: int) -> float:
    return float(f"{whole / scale:.15g}")


def _binary(values: Sequence[float]) -> tuple[int, list[Any]]:
    form = SINGLES if all(map(_is_single, values)) else DOUBLES
    packed = struct.pack(f">{len(values)}{_LETTERS[form]}", *values)
    cell = struct.calcsize(_LETTERS[form])
    planes = b"".join(packed[plane::cell] for plane in range(cell))
    return len(zlib.compress(planes, 1, -15)), [form, planes]


def _is_single(value: float) -> bool:
    return abs(value) < 1e38 and struct.unpack("f", struct.pack("f", value))[0] == value


def _numbers(plain: Any, count: int) -> Sequence[float]:
    match plain:
        case [int(form), int(scale), whole] if form in {SCALED, PRINTED} and scale > 0:
            return _unscaled(form, scale, integers.decode(whole, count))
        case [int(form), bytes(planes)] if form in _LETTERS:
            return _from_binary(form, planes, count)
        case [int(form), int(number), [int(inner), bytes(planes)], indexes] if form == KNOWN:
            if inner not in _LETTERS or not 0 < number <= count:
                raise PackError(f"{number} known numbers for {count}")
            table = _from_binary(inner, planes, number)
            return [table[i] for i in _within(integers.decode(indexes, count), number)]
    raise PackError("numbers of no known form")


def _unscaled(form: int, scale: int, whole: list[int]) -> list[float]:
    try:
        if form == SCALED:
            return [n / scale for n in whole]
        made = {n: _printed(n, scale) for n in set(whole)}
    except OverflowError as error:
        raise PackError("a number is beyond a double") from error
    return [made[n] for n in whole]


def _from_binary(form: int, planes: bytes, count: int) -> Sequence[float]:
    cell = struct.calcsize(_LETTERS[form])
    if len(planes) != cell * count:
        raise PackError(f"{len(planes)} bytes for {count} numbers")
    packed = bytearray(len(planes))
    for plane in range(cell):
        packed[plane::cell] = planes[plane * count : (plane + 1) * count]
    numbers: tuple[float, ...] = struct.unpack(f">{count}{_LETTERS[form]}", packed)
    return numbers
