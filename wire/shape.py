"""Dataclasses to plain CBOR values and back, checked field by field against their type hints.

What a type asks for is worked out once: every message of every link goes through here.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from plantroom.wire.errors import PlantroomError

Fail = Callable[[str], PlantroomError]
_Write = Callable[[Any], Any]
_Read = Callable[[Any, Fail, str], Any]


def to_plain(value: Any) -> Any:
    """Turn a dataclass into maps, lists and scalars; fields at their default are left out."""
    kind: Any = type(value)
    write = _writer(kind)
    return value if write is None else write(value)


@functools.cache
def _writer(kind: Any) -> _Write | None:
    """Return how values of a type are written; None for those that are plain."""
    if dataclasses.is_dataclass(kind):
        return functools.partial(_write_dataclass, dataclasses.fields(kind))
    if issubclass(kind, tuple | list):
        return _write_list
    return _write_mapping if issubclass(kind, Mapping) else None


def _write_dataclass(fields: tuple[Any, ...], value: Any) -> dict[str, Any]:
    plain = {}
    for field in fields:
        part = getattr(value, field.name)
        if not _is_default(part, field):
            plain[field.name] = to_plain(part)
    return plain


def _is_default(value: Any, field: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    return field.default_factory is not dataclasses.MISSING and value == field.default_factory()


def _write_list(value: Any) -> list[Any]:
    return [to_plain(part) for part in value]


def _write_mapping(value: Any) -> dict[Any, Any]:
    return {key: to_plain(part) for key, part in value.items()}


def from_plain(kind: Any, value: Any, fail: Fail, where: str = "") -> Any:
    """Build a `kind` from a plain value; anything that does not fit raises `fail(text)`."""
    return _reader(kind)(value, fail, where)


@functools.cache
def _reader(kind: Any) -> _Read:
    """Return how a type is read."""
    if dataclasses.is_dataclass(kind):
        return functools.partial(_read_dataclass, kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        read = _reader(next(part for part in args if part is not type(None)))
        return functools.partial(_read_optional, read) if type(None) in args else read
    if origin is typing.Literal:
        return functools.partial(_read_literal, args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return functools.partial(_read_list, _reader(args[0]))
        return functools.partial(_read_tuple, tuple(map(_reader, args)))
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_read_mapping, _reader(args[0]), _reader(args[1]))
    return functools.partial(_read_scalar, kind)


@functools.cache
def _field_readers(kind: Any) -> dict[str, _Read]:
    hints = typing.get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}


def _read_dataclass(kind: Any, value: Any, fail: Fail, where: str) -> Any:
    if not isinstance(value, dict):
        raise fail(f"{where or kind.__name__} is not a map")
    readers = _field_readers(kind)
    made = {  # a field that we do not know is from a later version: ignored, not refused
        key: readers[key](part, fail, key) for key, part in value.items() if key in readers
    }
    try:
        return kind(**made)
    except TypeError as error:
        raise fail(f"{kind.__name__} misses a field: {error}") from error


def _read_optional(read: _Read, value: Any, fail: Fail, where: str) -> Any:
    return None if value is None else read(value, fail, where)


def _read_literal(args: tuple[Any, ...], value: Any, fail: Fail, where: str) -> Any:
    if value not in args:
        raise fail(f"{where} is not one of {', '.join(map(str, args))}")
    return value


def _read_list(read: _Read, value: Any, fail: Fail, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise fail(f"{where} is not a list")
    return tuple([read(part, fail, where) for part in value])


def _read_tuple(reads: tuple[_Read, ...], value: Any, fail: Fail, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise fail(f"{where} is not a list")
    if len(value) != len(reads):
        raise fail(f"{where} has {len(value)} parts, {len(reads)} are wanted")
    return tuple(read(part, fail, where) for read, part in zip(reads, value, strict=True))


def _read_mapping(
    read_key: _Read, read_part: _Read, value: Any, fail: Fail, where: str
) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise fail(f"{where} is not a map")
    return {read_key(key, fail, where): read_part(part, fail, where) for key, part in value.items()}


def _read_scalar(kind: Any, value: Any, fail: Fail, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise fail(f"{where} is {type(value).__name__}, {kind.__name__} is wanted")
    if kind is int and not -(2**63) <= value < 2**63:
        raise fail(f"{where} is beyond 64 bits")
    return value
