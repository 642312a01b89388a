"""The TOML files of the four kinds of process: sample, check, and which kind a file is of."""

import dataclasses
import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plantroom.wire import settings
from plantroom.wire.errors import ConfigError, UsageError

_SETTINGS = {
    "device": ("plantroom.device.settings", "DeviceSettings"),
    "gateway": ("plantroom.gateway.settings", "GatewaySettings"),
    "cloud": ("plantroom.cloud.settings", "CloudSettings"),
    "broker": ("plantroom.broker.settings", "BrokerSettings"),
}
KINDS = tuple(_SETTINGS)


def settings_of(kind: str) -> Any:
    """Return the settings class of a kind of process; the others are not imported."""
    module, name = _SETTINGS[kind]
    return getattr(importlib.import_module(module), name)


def sample(kind: str) -> str:
    """Return the commented sample of a kind."""
    return settings.sample(settings_of(kind), f"plantroom {kind}")


def check(kind: str, file: Path, environ: Mapping[str, str]) -> None:
    """Read a file as the process would.

    Raises:
        ConfigError: naming file, key, what was expected and what to do.
    """
    module = importlib.import_module(_SETTINGS[kind][0])
    if hasattr(module, "read"):  # also checks what no single key can show
        module.read(file, environ)
    else:
        settings.load(settings_of(kind), file, environ)


def kind_of(file: Path) -> str:
    """Tell the kind of a file by its sections: the one that knows most of them.

    Raises:
        ConfigError: when it cannot be read.
        UsageError: when two kinds know as many.
    """
    sections = set(_tables(file))
    scores = {kind: _known(kind, sections) for kind in KINDS}
    best = max(scores.values())
    winners = [kind for kind, score in scores.items() if score == best]
    if best == 0 or len(winners) > 1:
        raise UsageError(
            "its sections do not tell which process it is for",
            where=str(file),
            remedy=f"give --kind {'|'.join(winners)}",
        )
    return winners[0]


def _known(kind: str, sections: set[str]) -> int:
    return len(sections & {field.name for field in dataclasses.fields(settings_of(kind))})


def _tables(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read it: {error.strerror}", where=str(file), remedy="give a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", where=str(file), remedy="mend that line") from error


def render(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write sections and keys as TOML."""
    sections = (
        "\n".join(
            [f"[{name}]", *(f"{key} = {settings.toml(value)}" for key, value in table.items())]
        )
        for name, table in tables.items()
    )
    return "\n\n".join(sections) + "\n"
