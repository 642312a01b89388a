"""What runs in a state folder now: written by `up`, read by every other command."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plantroom.certs import atomic
from plantroom.lab import lock
from plantroom.lab.layout import Layout
from plantroom.lab.ports import HOST, Ports
from plantroom.wire import shape
from plantroom.wire.errors import ConfigError, UnreachableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The `up` process, its ports, and the children's process ids by name."""

    pid: int
    port_base: int
    ready: bool = False
    pids: Mapping[str, int] = field(default_factory=dict)

    @property
    def ports(self) -> Ports:
        """Who listens where."""
        return Ports.from_base(self.port_base)


def save(layout: Layout, running: Running) -> None:
    """Tell the other commands."""
    atomic.write(layout.running, json.dumps(shape.to_plain(running)).encode() + b"\n")


def find(layout: Layout) -> Running | None:
    """Return what runs there, None when nothing does."""
    if lock.holder(layout) is None:
        return None
    try:
        plain = json.loads(layout.running.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # it has just taken the lock
    except (OSError, ValueError) as error:
        raise _unreadable(layout, str(error)) from error
    made: Running = shape.from_plain(Running, plain, lambda text: _unreadable(layout, text))
    return made


def need(layout: Layout) -> Running:
    """Return what runs there.

    Raises:
        UnreachableError: when nothing does.
    """
    running = find(layout)
    if running is None:
        raise UnreachableError(
            "no building runs here",
            where=str(layout.state),
            remedy="start one with `plantroom up`, or give its folder with --state",
        )
    return running


def addresses(layout: Layout, running: Running) -> dict[str, Any]:
    """Return the line that `up --json` prints once everything is ready."""
    ports, inspector = running.ports, layout.inspector
    return {
        "dashboard": f"http://{HOST}:{ports.cloud_http}/",
        "gateway": {
            "mqtt": f"mqtts://{HOST}:{ports.gateway_mqtt}",
            "http": f"http://{HOST}:{ports.gateway_http}",
        },
        "cloud": {
            "mqtt": f"mqtts://{HOST}:{ports.cloud_mqtt}",
            "http": f"http://{HOST}:{ports.cloud_http}",
        },
        "state": str(layout.state),
        "inspector": {
            "cert": str(inspector.cert),
            "key": str(inspector.key),
            "ca": str(inspector.ca),
        },
        "pids": dict(running.pids),
    }


def _unreadable(layout: Layout, text: str) -> ConfigError:
    return ConfigError(f"cannot be read: {text}", where=str(layout.running), remedy="remove it")
