"""Ask a running broker, over its socket, for its sessions and retained messages."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plantroom.broker.admin import SOCKET, TIMEOUT_S
from plantroom.broker.settings import BrokerSettings
from plantroom.lab.layout import Layout
from plantroom.wire.errors import CheckFailedError, ConfigError, UnreachableError
from plantroom.wire.settings import load
from plantroom.wire.unix_socket import short_address

BUILDING_BROKERS = ("gateway", "cloud")


def socket_of_building(layout: Layout, at: str) -> Path:
    """Return the socket of one of the two brokers of `plantroom up`."""
    return (layout.gateway if at == "gateway" else layout.cloud) / SOCKET


def socket_of_config(config: Path) -> Path:
    """Return the socket that a broker's configuration names; relative to where it was started.

    Raises:
        ConfigError: when it names none.
    """
    name = load(BrokerSettings, config, {}).admin.socket
    if not name:
        raise ConfigError("admin.socket is empty", where=str(config), remedy="name one")
    return Path(name)


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
