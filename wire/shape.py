"""Dataclasses to plain CBOR values and back, checked field by field against their type hints."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from plantroom.wire.errors import PlantroomError

Fail = Callable[[str], PlantroomError]


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _fields(kind: Any) -> tuple[Any, ...]:
    return dataclasses.fields(kind)


def to_plain(value: Any) -> Any:
    """Turn a dataclass into maps, lists and scalars; fields at their default are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for field in _fields(type(value)):
            part = getattr(value, field.name)
            if not _is_default(part, field):
                plain[field.name] = to_plain(part)
        return plain
    if isinstance(value, tuple | list):
        return [to_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {key: to_plain(part) for key, part in value.items()}
    return value


def _is_default(value: Any, field: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    return field.default_factory is not dataclasses.MISSING and value == field.default_factory()


def from_plain(kind: Any, value: Any, fail: Fail, where: str = "") -> Any:
    """Build a `kind` from a plain value; anything that does not fit raises `fail(text)`."""
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, fail, where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        if value is None and type(None) in args:
            return None
        kind = next(part for part in args if part is not type(None))
        return from_plain(kind, value, fail, where)
    if origin is typing.Literal:
        if value not in args:
            raise fail(f"{where} is not one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _tuple(args, value, fail, where)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(args, value, fail, where)
    return _scalar(kind, value, fail, where)


def _dataclass(kind: Any, value: Any, fail: Fail, where: str) -> Any:
    if not isinstance(value, dict):
        raise fail(f"{where or kind.__name__} is not a map")
    hints, names = _hints(kind), {field.name for field in _fields(kind)}
    made = {  # a field that we do not know is from a later version: ignored, not refused
        key: from_plain(hints[key], part, fail, key) for key, part in value.items() if key in names
    }
    try:
        return kind(**made)
    except TypeError as error:
        raise fail(f"{kind.__name__} misses a field: {error}") from error


def _tuple(args: tuple[Any, ...], value: Any, fail: Fail, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise fail(f"{where} is not a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(from_plain(args[0], part, fail, where) for part in value)
    if len(value) != len(args):
        raise fail(f"{where} has {len(value)} parts, {len(args)} are wanted")
    return tuple(
        from_plain(kind, part, fail, where) for kind, part in zip(args, value, strict=True)
    )


def _mapping(args: tuple[Any, ...], value: Any, fail: Fail, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise fail(f"{where} is not a map")
    return {
        from_plain(args[0], key, fail, where): from_plain(args[1], part, fail, where)
        for key, part in value.items()
    }


def _scalar(kind: Any, value: Any, fail: Fail, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise fail(f"{where} is {type(value).__name__}, {kind.__name__} is wanted")
    if kind is int and not -(2**63) <= value < 2**63:
        raise fail(f"{where} is beyond 64 bits")
    return value
