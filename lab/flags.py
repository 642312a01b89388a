"""What a building was asked to be; a flag that is not given keeps its value from the last start."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from plantroom.certs import atomic
from plantroom.lab.ports import BASE_DEFAULT
from plantroom.wire import shape
from plantroom.wire.errors import ConfigError

DEVICES_DEFAULT = 3
EMBEDDED, WORKLOAD_API = "embedded", "workload-api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Paths are absolute; `devices` counts the simulated ones."""

    replays: tuple[str, ...] = ()
    map_file: str | None = None
    devices: int = DEVICES_DEFAULT
    speed: float = 1.0
    seed: int = 1
    port_base: int = BASE_DEFAULT
    identity: str = EMBEDDED
    building_socket: str | None = None
    cloud_socket: str | None = None
    socket_owner: str | None = None


_KEPT = (
    *("speed", "seed", "port_base"),
    *("identity", "building_socket", "cloud_socket", "socket_owner"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The flags of one command line; None is what was not given."""

    replays: tuple[str, ...] = ()
    map_file: str | None = None
    devices: int | None = None
    speed: float | None = None
    seed: int | None = None
    port_base: int | None = None
    identity: str | None = None
    building_socket: str | None = None
    cloud_socket: str | None = None
    socket_owner: str | None = None

    def over(self, last: Flags) -> Flags:
        """Lay these flags over those of the last start.

        Which devices there are is one question: `--replay` or `--devices` answers it anew.
        """
        chosen = {name: value for name in _KEPT if (value := getattr(self, name)) is not None}
        if self.replays or self.devices is not None:
            devices = self.devices if self.devices is not None else 0
            chosen |= {"replays": self.replays, "map_file": self.map_file, "devices": devices}
        elif self.map_file is not None:
            chosen["map_file"] = self.map_file
        return dataclasses.replace(last, **chosen)


def load(path: Path) -> Flags:
    """Read the flags of the last start; the defaults when there was none.

    Raises:
        ConfigError: when the file is not one of ours.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Flags()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot be read: {error}", where=str(path), remedy="remove it"
        ) from error

    def fail(text: str) -> ConfigError:
        return ConfigError(text, where=str(path), remedy="remove it")

    made: Flags = shape.from_plain(Flags, plain, fail)
    return made


def save(path: Path, flags: Flags) -> None:
    """Keep the flags for the next start."""
    atomic.write(path, json.dumps(shape.to_plain(flags), indent=2).encode() + b"\n")
