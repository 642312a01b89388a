"""A state folder that is set up, a web server, and two Workload APIs that say what a test wants."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from plantroom.lab import setup
from plantroom.lab.building import Names, simulated
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from plantroom.wire.spiffe import SpiffeId
from tests.fakes import workload_agents
from tests.fakes.workload_issuer import Issuer, serving

DEVICES = simulated(2, seed=1, names=Names())


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state")


@pytest.fixture
def set_up(layout: Layout) -> Layout:
    """A folder as `up` leaves it before it starts anything."""
    setup.prepare(layout, Flags(devices=2), DEVICES)
    return layout


class Answers:
    """What the web server says, by path; what is not there is 404."""

    def __init__(self) -> None:
        self.by_path: dict[str, Any] = {}
        self.port = 0


@pytest.fixture
def web() -> Iterator[Answers]:
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = answers.by_path.get(self.path)
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(404 if said is None else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, name="web", args=(0.01,))
        thread.start()
        yield answers
        server.shutdown()
        thread.join(60)


def latest(*devices: tuple[str, bool, dict[str, str]]) -> dict[str, Any]:
    """Write `/api/latest` as a gateway does."""
    return {
        "devices": [
            {"site": "building-1", "device": name, "online": online, "info": info, "points": {}}
            for name, online, info in devices
        ]
    }


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[tuple[Issuer, Issuer]]:
    """The building's and the cloud's."""
    with ExitStack() as stack:
        made = []
        for name in (workload_agents.BUILDING, workload_agents.CLOUD):
            registry = workload_agents.registry(tmp_path, name)
            stack.callback(registry.close)
            authority = workload_agents.authority(tmp_path, name)
            path = tmp_path / f"{name}.sock"
            made.append(stack.enter_context(serving(authority, registry, path)))
        yield made[0], made[1]


def admit(issuer: Issuer, *spiffe_ids: SpiffeId) -> None:
    for spiffe_id in spiffe_ids:
        issuer.registry.create(spiffe_id, selectors=(f"unix:uid:{os.geteuid()}",))
    issuer.look()
