"""CBOR as everything here uses it: deterministic out, strict in.

Source: RFC 8949, sections 4.2.3 (length-first deterministic encoding) and 5.
"""

from collections.abc import Callable, Collection
from os import urandom
from typing import Any

import cbor2

DEPTH_MAX = 16
ITEMS_MAX = 1_000_000  # some 70 MB once decoded: an item of one byte becomes an object of 56 to 64


def _refuse_tag(*_decoder: object) -> Any:
    raise ValueError("tags are not accepted")


# Nothing here is tagged, and what cbor2 makes of tags is not for strangers to choose: big integers
# and decimals of any size, regular expressions, mail, objects that contain themselves.
_TAGS_OF_CBOR2 = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261)
_REFUSED = dict.fromkeys((*_TAGS_OF_CBOR2, 1004, 43000, 55799), _refuse_tag)
# What is decoded is half of a pair: the other half, which nobody outside knows, comes right behind.
_PAIR, _END = b"\x82", b"\x48" + urandom(8)
_STRINGS = (2, 3)  # the major types whose content is no items
_NOT_CBOR = (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError, MemoryError)


def dumps(value: object) -> bytes:
    """Encode deterministically: the same value always gives the same bytes."""
    return cbor2.dumps(value, canonical=True)


def loads(data: bytes, *, bytes_max: int, error: Callable[[str], Exception]) -> Any:
    """Decode one data item and nothing behind it.

    Duplicate keys, tags, indefinite lengths, trailing bytes, depth beyond `DEPTH_MAX`, more than
    `ITEMS_MAX` items and more than `bytes_max` bytes raise `error(text)`, as does anything that is
    not CBOR.
    """
    if len(data) > bytes_max:
        raise error(f"{len(data)} bytes, the limit is {bytes_max}")
    try:
        return _loads_strictly(data)
    except _NOT_CBOR as cause:
        raise error(f"not CBOR that we accept: {cause}") from cause


def loads_exact(
    data: bytes,
    *,
    bytes_max: int,
    error: Callable[[str], Exception],
    tags: Collection[int] = (),
) -> Any:
    """Decode like `loads`, and refuse what is not the one deterministic encoding of its value.

    `tags` may occur and give `cbor2.CBORTag`; maps inside them are immutable.
    """

    def known(tag: Any, _immutable: object) -> Any:
        return tag if tag.tag in tags else _refuse_tag()

    if len(data) > bytes_max:
        raise error(f"{len(data)} bytes, the limit is {bytes_max}")
    try:
        value = _loads_strictly(data, known)
        same = dumps(value) == data
    except _NOT_CBOR as cause:
        raise error(f"not CBOR that we accept: {cause}") from cause
    if not same:
        raise error("not deterministically encoded")
    return value


def _loads_strictly(data: bytes, tag_hook: Callable[..., Any] = _refuse_tag) -> Any:
    if len(data) > ITEMS_MAX:  # as many items need as many bytes
        _check_items(data)
    value, end = cbor2.loads(
        _PAIR + data + _END,
        tag_hook=tag_hook,
        semantic_decoders=_REFUSED,
        allow_duplicate_keys=False,
        allow_indefinite=False,
        max_depth=DEPTH_MAX + 1,
    )
    if end != _END[1:]:
        raise ValueError("bytes behind the end")
    return value


def _check_items(data: bytes) -> None:
    """Walk over the items from head to head; what is wrong beside their number, decoding says."""
    at = items = 0
    while at < len(data) and items < ITEMS_MAX:
        items += 1
        major, info = divmod(data[at], 32)
        at += 1
        if info < 24:
            size = info
        elif info < 28:
            width = 1 << (info - 24)
            size = int.from_bytes(data[at : at + width], "big")
            at += width
        else:
            return  # of indefinite length, or no CBOR: decoding ends there
        if major in _STRINGS:
            at += size
    if at < len(data):
        raise ValueError(f"more than {ITEMS_MAX} items")
