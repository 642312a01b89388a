"""Ask a broker for its sessions and retained messages: over its socket, or its database at rest."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plantroom.broker import at_rest
from plantroom.broker.admin import SOCKET, TIMEOUT_S
from plantroom.broker.settings import BrokerSettings
from plantroom.lab.layout import Layout
from plantroom.wire.errors import CheckFailedError, ConfigError, UnreachableError
from plantroom.wire.settings import load
from plantroom.wire.unix_socket import short_address

BUILDING_BROKERS = ("gateway", "cloud")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a broker answers while it runs, and what it leaves behind."""

    socket: Path
    database: Path | None


def place_in_building(layout: Layout, at: str) -> Place:
    """Return where one of the two brokers of `plantroom up` is."""
    if at == "gateway":
        return Place(socket=layout.gateway / SOCKET, database=layout.queue)
    return Place(socket=layout.cloud / SOCKET, database=layout.front)


def place_of_config(config: Path) -> Place:
    """Return where a broker with this configuration is; relative to where it was started.

    Raises:
        ConfigError: when it names no socket.
    """
    settings = load(BrokerSettings, config, os.environ)
    if not settings.admin.socket:
        raise ConfigError("admin.socket is empty", where=str(config), remedy="name one")
    kept = settings.store.kind == "sqlite"
    return Place(
        socket=Path(settings.admin.socket), database=Path(settings.store.path) if kept else None
    )


def look(place: Place, what: str, about: str = "") -> tuple[bool, list[dict[str, Any]]]:
    """Ask for `sessions` or what is `retained`; say whether it runs, and the rows.

    Raises:
        UnreachableError: when no broker answers there, and it has left no database.
        CheckFailedError: when the broker cannot do it.
        StorageError: when its database cannot be read.
    """
    try:
        return True, list(ask(place.socket, what, about))
    except UnreachableError:
        if place.database is None or not place.database.exists():
            raise
    if what == "sessions":
        return False, [asdict(session) for session in at_rest.sessions(place.database)]
    return False, [asdict(message) for message in at_rest.retained(place.database, about)]


def ask(path: Path, what: str, about: str = "") -> Iterator[dict[str, Any]]:
    """Ask one question; give the rows of the answer as they come.

    Raises:
        UnreachableError: when no broker answers there.
        CheckFailedError: when the broker cannot do it.
    """
    asked = {"ask": what, "about": about}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(TIMEOUT_S)
            with short_address(path) as address:
                link.connect(address)
            link.sendall(json.dumps(asked).encode() + b"\n")
            for line in link.makefile("rb"):
                said = json.loads(line)
                if "row" in said:
                    yield said["row"]
                elif "error" in said:
                    raise CheckFailedError(said["error"], where=str(path))
                else:
                    return
    except OSError as error:
        raise UnreachableError(
            f"no broker answers: {error.strerror or error}",
            where=str(path),
            remedy="start it, or say which with --at or --config",
        ) from error
    raise UnreachableError("the broker has hung up", where=str(path), remedy="see its log")
