"""The Workload API as others' clients see it: PyPI's `spiffe`, on both event loops."""

import asyncio
import contextlib
import os
import queue
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spiffe
import uvloop
from spiffe import WorkloadApiClient, X509Source

from plantroom.certs import workload_ask
from plantroom.certs.authority import Authority
from plantroom.certs.registry import Registry
from plantroom.certs.workload_server import ServerLimits
from plantroom.wire.errors import ConfigError
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.workload_issuer import Issuer, serving

MINE = (f"unix:uid:{os.geteuid()}", f"unix:path:{Path('/proc/self/exe').readlink()}")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture(params=["asyncio", "uvloop"])
def issuer(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    building: Authority,
    cloud: Authority,
    registry: Registry,
) -> Iterator[Issuer]:
    run: Callable[..., Any] = uvloop.run if request.param == "uvloop" else asyncio.run
    path = tmp_path / "w.sock"
    with serving(building, registry, path, federated=(cloud.bundle(),), run=run) as made:
        yield made
    assert not path.exists()


def test_the_spiffe_client_gets_every_svid_and_bundle_and_no_jwt(
    issuer: Issuer, cloud: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    issuer.registry.create(gateway_id, selectors=MINE, hint="internal")
    issuer.registry.create(sensor_id, selectors=MINE, hint="room")
    issuer.look()
    assert stat.S_IMODE(issuer.path.stat().st_mode) == 0o666
    with WorkloadApiClient(f"unix:{issuer.path}", default_timeout=20) as client:
        svids = client.fetch_x509_svids()
        assert [str(one.spiffe_id) for one in svids] == [str(gateway_id), str(sensor_id)]
        context = client.fetch_x509_context()
        names = {issuer.authority.trust_domain, cloud.trust_domain}
        assert {str(one.trust_domain) for one in context.x509_bundle_set.bundles} == names
        bundles = client.fetch_x509_bundles().bundles
        assert {str(one.trust_domain) for one in bundles} == names
        for ask in (lambda: client.fetch_jwt_svid({"a"}), client.fetch_jwt_bundles):
            with pytest.raises(spiffe.errors.PySpiffeError, match="UNIMPLEMENTED"):
                ask()


def test_the_spiffe_source_follows_rotation(issuer: Issuer, sensor_id: SpiffeId) -> None:
    issuer.registry.create(sensor_id, selectors=MINE, ttl_s=4)
    with X509Source(socket_path=f"unix:{issuer.path}", timeout_in_seconds=20) as source:
        news: queue.SimpleQueue[None] = queue.SimpleQueue()

        def serial() -> int:
            return source.get_x509_context().default_svid.leaf.serial_number

        first = serial()
        source.subscribe_for_updates(lambda: news.put(None))
        while serial() == first:
            news.get(timeout=20)


def test_nobody_without_an_entry_gets_anything(issuer: Issuer, sensor_id: SpiffeId) -> None:
    issuer.registry.create(sensor_id, selectors=(*MINE, "unix:gid:4711"))
    with WorkloadApiClient(f"unix:{issuer.path}", default_timeout=20) as client:
        for ask in (client.fetch_x509_svid, client.fetch_x509_bundles):
            with pytest.raises(spiffe.errors.PySpiffeError, match="no identity issued"):
                ask()


FETCH = """
import os, sys
from pathlib import Path
from plantroom.certs.workload_feed import WorkloadFeed
from plantroom.wire.errors import PlantroomError
from plantroom.wire.spiffe import SpiffeId
os.setgid(65534)
os.setuid(65534)
try:
    print(WorkloadFeed(Path(sys.argv[1]), SpiffeId.parse(sys.argv[2])).renew().svid.spiffe_id)
except PlantroomError as error:
    print(error.what)
"""


@root_only
def test_a_caller_of_another_user_is_refused_until_an_entry_names_that_user(
    building: Authority, registry: Registry, sensor_id: SpiffeId
) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(f"/run/plantroom-test-{os.getpid()}")  # where another user may look
        folder.mkdir()
        stack.callback(folder.rmdir)
        path = folder / "w.sock"
        stack.enter_context(serving(building, registry, path))

        def fetched() -> str:
            command = [sys.executable, "-c", FETCH, str(path), str(sensor_id)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        registry.create(sensor_id, selectors=("unix:uid:0",))
        assert "no identity issued" in fetched()
        registry.create(sensor_id, selectors=("unix:uid:65534",))
        assert fetched() == str(sensor_id)


def test_connections_of_one_user_are_bounded(
    tmp_path: Path, building: Authority, registry: Registry
) -> None:
    path = tmp_path / "w.sock"
    limits = ServerLimits(connections_max=2, connections_per_user_max=2)
    with (
        serving(building, registry, path, limits=limits) as issuer,
        contextlib.ExitStack() as stack,
    ):
        links = []
        for _ in range(3):
            link = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            link.settimeout(20)
            link.connect(str(path))
            links.append(link)
        assert links[0].recv(9)  # SETTINGS
        assert links[1].recv(9)
        assert links[2].recv(9) == b""
        figures = {one.name: one.value for one in issuer.server.metrics()}
        assert figures["plantroom_workload_connections"] == 2
        assert figures["plantroom_workload_cut_off_total"] == 1


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_flood_of_callers_that_go_at_once_fills_no_log(
    tmp_path: Path,
    building: Authority,
    registry: Registry,
    run: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "w.sock"
    caplog.set_level("INFO", "plantroom.certs.workload")
    with serving(building, registry, path, run=run):
        for number in range(60):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
                link.connect(str(path))
                with contextlib.suppress(OSError):
                    link.sendall(bytes([number]) * 100)
        for _ in range(3):
            assert workload_ask.svids(path).names == ()
    assert len([one for one in caplog.messages if "no entry for" in one]) == 1
    assert len(caplog.messages) <= 4


def test_a_place_where_something_lies_is_refused(
    tmp_path: Path, building: Authority, registry: Registry
) -> None:
    path = tmp_path / "w.sock"
    path.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(ConfigError, match="no socket lies there"),
        serving(building, registry, path),
    ):
        pass
    assert path.is_symlink()
