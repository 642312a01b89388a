"""A list of integers in the smallest of several exact forms, as plain CBOR values.

`[v]`                          every integer is v
`[0, low, step, planes]`       low + step * k; the k as bytes, most significant plane first
`[1, low, step, width, bits]`  the same, the k packed at `width` bits each
`[2, first, deltas]`           differences, themselves a list of integers
`[3, n, known, indexes]`       n known integers, and which of them each one is

Planes are what a compressor likes (the upper ones hardly change); bits are for what no compressor
can make smaller. Which is best is measured, not guessed. How many integers there are is known from
elsewhere, and has been checked there: nothing here allocates more than that count asks for.
"""

import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate, chain
from math import gcd
from operator import sub
from typing import Any

from plantroom.wire.errors import PackError

PLANES, BITS, DELTAS, KNOWN = range(4)
SPAN_MAX = 2**64 - 1  # between the smallest and the largest; CBOR's own limit without tags
_OWN_BYTES = 6  # what a form costs beside its payload, roughly
_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}

Plain = list[Any]


def encode(values: Sequence[int]) -> Plain:
    """Encode; `decode` with the same count gives the same integers.

    They lie in 64 bits, signed or not: their span is at most `SPAN_MAX`.
    """
    return smallest(values)[1]


def smallest(values: Sequence[int], *, nested: int = 2) -> tuple[int, Plain]:
    """Return the smallest form with its size in bytes after compression, as far as can be told.

    `nested`: how many more forms may stand inside this one.
    """
    if not values:
        return 1, []
    low, high = min(values), max(values)
    if low == high:
        return _OWN_BYTES, [low]
    forms = [_plain_form(values, low, high)]
    if nested:
        deltas = list(map(sub, values[1:], values))
        if max(deltas) - min(deltas) <= SPAN_MAX:
            size, plain = smallest(deltas, nested=0)
            forms.append((size + _OWN_BYTES, [DELTAS, values[0], plain]))
    if nested > 1:
        known = sorted(set(values))
        if 2 * len(known) <= len(values):
            forms.append(_known_form(values, known))
    return min(forms, key=lambda form: form[0])


def _plain_form(values: Sequence[int], low: int, high: int) -> tuple[int, Plain]:
    """Return planes or bits, whichever is smaller."""
    offsets = [value - low for value in values]
    step = gcd(*offsets)
    if step > 1:
        offsets = [offset // step for offset in offsets]
    width = ((high - low) // step).bit_length()
    planes = _to_planes(offsets, (width + 7) // 8)
    planes_size = len(zlib.compress(planes, 1, -15))
    bits_size = (len(offsets) * width + 7) // 8
    if planes_size <= bits_size:
        return planes_size + _OWN_BYTES, [PLANES, low, step, planes]
    return bits_size + _OWN_BYTES, [BITS, low, step, width, _to_bits(offsets, width)]


def _known_form(values: Sequence[int], known: list[int]) -> tuple[int, Plain]:
    index = {value: i for i, value in enumerate(known)}
    known_size, known_plain = smallest(known, nested=1)
    size, plain = smallest([index[value] for value in values], nested=1)
    return known_size + size + _OWN_BYTES, [KNOWN, len(known), known_plain, plain]


def decode(plain: Any, count: int, *, nested: int = 2) -> list[int]:
    """Decode `count` integers; their range is for the caller to check.

    Raises:
        PackError: when `plain` is not of a form above, or holds more or fewer.
    """
    match plain:
        case []:
            if count == 0:
                return []
        case [value]:
            return [_integer(value)] * count
        case [form, low, step, bytes(planes)] if form == PLANES:
            return _stepped(low, step, _from_planes(planes, count))
        case [form, low, step, width, bytes(bits)] if form == BITS:
            return _stepped(low, step, _from_bits(bits, _integer(width), count))
        case [form, first, deltas] if form == DELTAS and nested and count:
            start = _integer(first)
            return list(accumulate(chain((start,), decode(deltas, count - 1, nested=0))))
        case [form, number, known, indexes] if form == KNOWN and nested > 1:
            return _from_known(_integer(number), known, indexes, count)
    raise PackError("integers of no known form")


def _from_known(number: int, known: Any, indexes: Any, count: int) -> list[int]:
    if not 0 < number <= count:
        raise PackError(f"{number} known integers for {count}")
    table = decode(known, number, nested=1)
    found = decode(indexes, count, nested=1)
    if min(found) < 0 or max(found) >= number:
        raise PackError("an index beyond the known integers")
    return [table[i] for i in found]


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise PackError(f"{type(value).__name__} where an integer is wanted")
    return value


def _stepped(low: Any, step: Any, offsets: list[int]) -> list[int]:
    base, factor = _integer(low), _integer(step)
    if factor == 1:
        return [base + offset for offset in offsets]
    return [base + factor * offset for offset in offsets]


def _cell(width: int) -> int:
    """Return the width of the machine integer that `width` bytes fit into."""
    return next(cell for cell in _LETTERS if width <= cell)


def _to_planes(offsets: list[int], width: int) -> bytes:
    cell = _cell(width)
    packed = struct.pack(f">{len(offsets)}{_LETTERS[cell]}", *offsets)
    return b"".join(packed[plane::cell] for plane in range(cell - width, cell))


def _from_planes(planes: bytes, count: int) -> list[int]:
    width, rest = divmod(len(planes), count) if count else (0, 1)
    if rest or not 0 < width <= 8:
        raise PackError(f"{len(planes)} bytes of planes for {count} integers")
    cell = _cell(width)
    packed = bytearray(count * cell)
    for plane in range(width):
        packed[cell - width + plane :: cell] = planes[plane * count : (plane + 1) * count]
    return list(struct.unpack(f">{count}{_LETTERS[cell]}", packed))


def _to_bits(offsets: list[int], width: int) -> bytes:
    text = "".join([f"{offset:0{width}b}" for offset in offsets])
    size = (len(text) + 7) // 8
    return int(text.ljust(size * 8, "0"), 2).to_bytes(size, "big")


def _from_bits(bits: bytes, width: int, count: int) -> list[int]:
    if not 0 < width <= 64 or len(bits) != (count * width + 7) // 8 or not count:
        raise PackError(f"{len(bits)} bytes for {count} integers of {width} bits")
    text = f"{int.from_bytes(bits, 'big'):0{len(bits) * 8}b}"
    return [int(text[at : at + width], 2) for at in range(0, count * width, width)]
