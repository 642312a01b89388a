"""Settings: frozen dataclasses filled from one TOML file and `PLANTROOM_<SECTION>_<KEY>`.

A process declares its settings as a dataclass of sections, each section a dataclass of `option`s.
From the same declaration come the checks, the environment names and the commented sample file.
"""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from plantroom.wire.errors import ConfigError

T = TypeVar("T")
PREFIX = "PLANTROOM_"
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LISTS = {str: ("a list of texts", '["…", "…"]'), int: ("a list of whole numbers", "[0, 1]")}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def option(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare one key: default, one line for the sample file, and what values are in range."""
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(kind: Callable[[], T]) -> T:
    """Declare one section."""
    return dataclasses.field(default_factory=kind)


def load(kind: type[T], path: Path | None, environ: Mapping[str, str]) -> T:
    """Read settings from a file (None: defaults only) and the environment, and check every one.

    Raises:
        ConfigError: naming file, key, what was expected and what to do.
    """
    table = _read(path) if path else {}
    source = str(path) if path else "defaults"
    sections = {field.name: field for field in dataclasses.fields(typing.cast("Any", kind))}
    for name in table:
        if name not in sections:
            raise _unknown(f"section [{name}]", source, name, list(sections))
    made = {
        name: _section(_type(kind, name), name, table.get(name, {}), source, environ)
        for name in sections
    }
    return kind(**made)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration: {error.strerror}",
            where=str(path),
            remedy="give the path of a TOML file; `plantroom config sample` prints one",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", where=str(path), remedy="mend that line") from error


def _type(kind: Any, name: str) -> Any:
    return typing.get_type_hints(kind)[name]


def _section(kind: Any, name: str, table: Any, source: str, environ: Mapping[str, str]) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(
            f"[{name}] is not a section", where=source, remedy=f"write [{name}] and its keys below"
        )
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in table:
        if key not in fields:
            raise _unknown(f"key {name}.{key}", source, key, list(fields))
    values = {}
    for key, field in fields.items():
        variable = f"{PREFIX}{name}_{key}".upper()
        wanted = _type(kind, key)
        if variable in environ:
            value = _from_text(environ[variable], wanted, variable)
            values[key] = _checked(value, wanted, field, f"{variable} (environment)", key)
        elif key in table:
            values[key] = _checked(table[key], wanted, field, source, f"{name}.{key}")
    return kind(**values)


def _unknown(what: str, source: str, name: str, known: list[str]) -> ConfigError:
    import difflib  # noqa: PLC0415 -- only when something is wrong; the device stays small

    near = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean {near[0]}?" if near else f"remove it; known: {', '.join(known)}"
    return ConfigError(f"unknown {what}", where=source, remedy=remedy)


def _expected(what: str, source: str, key: str, remedy: str) -> ConfigError:
    return ConfigError(f"{key} must be {what}", where=source, remedy=remedy)


def _from_text(text: str, wanted: Any, variable: str) -> Any:
    try:
        if wanted is bool:
            if text.lower() not in _TRUE | _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        if wanted in {int, float}:
            return wanted(text)
    except ValueError:
        raise _expected(
            _WORDS[wanted], "environment", variable, f"{text!r} is not; change or unset it"
        ) from None
    if typing.get_origin(wanted) is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if typing.get_args(wanted)[0] is str:
            return parts
        return [int(part) if part.lstrip("-").isdecimal() else part for part in parts]
    if typing.get_origin(wanted) is dict:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise _expected(
                "a table of texts", "environment", variable, "write it as name=…,name=…"
            )
        return {name.strip(): value for name, _, value in pairs}
    return text


def _checked(value: Any, wanted: Any, field: Any, source: str, key: str) -> Any:
    origin = typing.get_origin(wanted)
    if origin is tuple:
        kind = typing.get_args(wanted)[0]
        if not isinstance(value, list) or not all(type(part) is kind for part in value):
            what, example = _LISTS[kind]
            raise _expected(what, source, key, f"write it as {example}")
        return tuple(value)
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
            raise _expected("a table of texts", source, key, f'write {key} = {{ name = "…" }}')
        return value
    if origin in {typing.Union, types.UnionType}:
        wanted = next(part for part in typing.get_args(wanted) if part is not type(None))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise _expected(_WORDS[wanted], source, key, f"{value!r} is {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _expected("a finite number", source, key, f"{value!r} is not")
    _check_range(value, field, source, key)
    return value


def _kind(value: Any) -> str:
    return _WORDS.get(type(value), type(value).__name__)


def _check_range(value: Any, field: Any, source: str, key: str) -> None:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    choices = field.metadata.get("choices", ())
    if choices and value not in choices:
        raise _expected(f"one of {', '.join(choices)}", source, key, f"{value!r} is not")
    if (low is not None and value < low) or (high is not None and value > high):
        span = (
            f"from {low}"
            if high is None
            else f"up to {high}"
            if low is None
            else (f"from {low} to {high}")
        )
        raise _expected(span, source, key, f"{value!r} is out of range")


def sample(kind: type[Any], title: str) -> str:
    """Return a TOML file with every option at its default, each explained in a comment."""
    lines = [f"# {title}", "# Every key may be overridden by PLANTROOM_<SECTION>_<KEY>.", ""]
    for part in dataclasses.fields(kind):
        inner = _type(kind, part.name)
        lines += [f"# {(inner.__doc__ or '').strip().splitlines()[0]}", f"[{part.name}]"]
        for field in dataclasses.fields(inner):
            default = getattr(inner(), field.name)
            lines.append(f"# {field.metadata['doc']}{_span(field)}")
            unset = default is None
            lines.append(f"# {field.name} = unset" if unset else f"{field.name} = {toml(default)}")
        lines.append("")
    return "\n".join(lines)


def _span(field: Any) -> str:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if field.metadata.get("choices"):
        return f" One of: {', '.join(field.metadata['choices'])}."
    if low is None and high is None:
        return ""
    return f" Range: {'' if low is None else low} to {'any' if high is None else high}."


def toml(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(map(_toml_character, value)) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(part) for part in value) + "]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{toml(key)} = {toml(part)}" for key, part in value.items())
        return "{ " + pairs + " }" if pairs else "{}"
    return repr(value)


def _toml_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08X}"
