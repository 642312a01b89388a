"""The Workload API with npm's grpc-js at the other end: as client of our server, as our agent."""

import base64
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.registry import Registry
from plantroom.certs.workload_feed import WorkloadFeed
from plantroom.certs.workload_messages import read_bundles, read_svids
from plantroom.wire.errors import PlantroomError, RefusedError
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.npm import installed
from tests.fakes.waiting import until
from tests.fakes.workload_agent import offer, response
from tests.fakes.workload_issuer import serving

pytestmark = pytest.mark.real
VERSION = "1.14.0"
SCRIPT = Path(__file__).parent / "foreign" / "workload.mjs"


class GrpcJs:
    """One run of the script."""

    def __init__(self, *words: str, **environ: str) -> None:
        folder = installed("@grpc/grpc-js", VERSION)
        self._process = subprocess.Popen(
            ["node", str(SCRIPT), str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    def next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def message(self) -> bytes:
        said = self.next()
        assert "message" in said, said
        return base64.b64decode(said["message"])

    def push(self, message: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((base64.b64encode(message).decode() or "-") + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=20)


@contextlib.contextmanager
def grpc_js(*words: str, **environ: str) -> Iterator[GrpcJs]:
    with contextlib.closing(GrpcJs(*words, **environ)) as made:
        yield made


def test_grpc_js_gets_what_our_server_pushes_and_its_refusals(
    tmp_path: Path, building: Authority, cloud: Authority, registry: Registry, sensor_id: SpiffeId
) -> None:
    path = tmp_path / "w.sock"
    with serving(building, registry, path, federated=(cloud.bundle(),)):
        with grpc_js("client", str(path), "FetchX509SVID") as client:
            assert client.next() == {"status": 7, "details": "no identity issued"}
        registry.create(sensor_id, selectors=(f"unix:uid:{os.geteuid()}",), ttl_s=4, hint="room")
        with grpc_js("client", str(path), "FetchX509SVID") as client:
            first, second = (read_svids(client.message()) for _ in range(2))
            assert first.names == second.names == (str(sensor_id),)
            assert first.svids[0].chain_der != second.svids[0].chain_der
            assert first.svids[0].hint == "room"
            assert set(first.federated) == {cloud.trust_domain}
            registry.deny(sensor_id, reason="operator")
            while "message" in (said := client.next()):
                pass
            assert said["status"] == 7
        registry.restore(sensor_id)
        with grpc_js("client", str(path), "FetchX509Bundles") as client:
            names = {building.trust_domain, cloud.trust_domain}
            assert set(read_bundles(client.message())) == names
        with grpc_js("client", str(path), "FetchJWTBundles") as client:
            assert client.next()["status"] == 12
        with grpc_js("client", str(path), "FetchX509SVID", WITHOUT_HEADER="1") as client:
            assert client.next()["status"] == 3


def test_our_light_client_follows_a_server_of_grpc_js(
    tmp_path: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId
) -> None:
    path = tmp_path / "w.sock"
    first, second = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    filler = offer(issue_svid(cloud, SpiffeId(cloud.trust_domain, "x"), ttl_s=600), cloud)
    with (
        grpc_js("server", str(path)) as server,
        contextlib.closing(WorkloadFeed(path, sensor_id)) as feed,
    ):
        assert server.next() == {"ready": True}
        server.push(b"")

        def refused() -> bool:
            try:
                feed.renew()
            except RefusedError as error:
                return "no identity issued" in str(error)
            except PlantroomError:
                return False
            return False

        until(refused, deadline_s=20, what="a refusal")
        for svid in (first, second):
            server.push(response(*[filler] * 1500, offer(svid, building), federated=[cloud]))

            def has_it(wanted: str = svid.serial) -> bool:
                if feed.due(time.time()):
                    with contextlib.suppress(PlantroomError):
                        return feed.renew().svid.serial == wanted
                return False

            until(has_it, deadline_s=20, what="the next SVID")
        assert set(feed.current().bundles) == {building.trust_domain, cloud.trust_domain}
