"""A renewed SVID is tried before the link that works is given up."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs.authority import Authority
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.embedded import issue_svid
from plantroom.certs.holder import IdentityHolder
from plantroom.certs.registry_trust import TrustStore
from plantroom.gateway import cloud_link
from plantroom.gateway.cloud_link import CloudLink
from plantroom.gateway.identities import Names
from plantroom.gateway.settings import GatewaySettings
from plantroom.wire import tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Presence
from plantroom.wire.identity import Identity
from tests.fakes.waiting import eventually

CLOUD = "smart-building.cloud"


class Bridge:
    def __init__(self, *, connected: bool) -> None:
        self.connected = connected
        self.why: list[str] = []

    def reconnect(self, why: str) -> None:
        self.why.append(why)


@pytest.fixture
def front(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "cloud", CLOUD, clock=SystemClock())


def identity_of(front: Authority, source: IdentityHolder) -> Identity:
    names = Names.of(GatewaySettings())
    return source.publish(issue_svid(front, names.cloud, ttl_s=60), {CLOUD: front.bundle()})


@contextmanager
def listening(context: ssl.SSLContext) -> Iterator[tuple[int, threading.Event]]:
    """Accept TLS connections, and hold each until its client has gone."""
    met = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            while True:
                try:
                    plain, _ = server.accept()
                except OSError:
                    return
                try:
                    with plain, context.wrap_socket(plain, server_side=True) as connection:
                        met.set()
                        connection.recv(1)
                except OSError:
                    continue

        running = pool.submit(serve)
        try:
            yield server.getsockname()[1], met
        finally:
            server.shutdown(socket.SHUT_RDWR)
            running.result(60)


def link_to(port: int, source: IdentityHolder, tmp_path: Path, on_exit: Callable[..., Any]) -> Any:
    settings = GatewaySettings()
    bridge = replace(settings.bridge, address=f"127.0.0.1:{port}", answer_timeout_s=5.0)
    store = TrustStore(tmp_path / "registry.db")
    on_exit(store.close)
    return CloudLink(
        replace(settings, bridge=bridge),
        Names.of(settings),
        source,
        BundleKeeper(store, {}, own="building-1.smart.local"),
        lambda online: Presence(online=online, epoch=1, at_us=None),
    )


def test_an_svid_that_is_accepted_replaces_the_link(
    front: Authority, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async def main() -> None:
        source, bridge = IdentityHolder(), Bridge(connected=True)
        identity = identity_of(front, source)
        served = issue_svid(front, Names.of(GatewaySettings()).front, ttl_s=60)
        context = tls.server_context(replace(identity, svid=served))
        with listening(context) as (port, met):
            link = link_to(port, source, tmp_path, request.addfinalizer)
            await asyncio.wait_for(link.renewed(identity, bridge), 20)
            assert met.is_set()
        assert bridge.why == ["the identity was renewed"]

    asyncio.run(main())


def test_an_svid_that_is_refused_leaves_the_link_until_there_is_a_newer(
    front: Authority,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cloud_link, "RETRY_S", 0.01)
    other = Authority.open(tmp_path / "other", CLOUD, clock=SystemClock())

    async def main() -> None:
        source, bridge = IdentityHolder(), Bridge(connected=True)
        identity = identity_of(front, source)
        served = issue_svid(front, Names.of(GatewaySettings()).front, ttl_s=60)
        trusting_others = replace(identity, svid=served, bundles={CLOUD: other.bundle()})
        with listening(tls.server_context(trusting_others)) as (port, _):
            link = link_to(port, source, tmp_path, request.addfinalizer)
            trying = asyncio.create_task(link.renewed(identity, bridge))
            await eventually(lambda: "a while longer" in caplog.text)
            identity_of(front, source)  # renewed again
            await asyncio.wait_for(trying, 20)
        assert bridge.why == []
        assert caplog.text.count("a while longer") == 1

    asyncio.run(main())


def test_without_a_link_there_is_nothing_to_try(
    front: Authority, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async def main() -> None:
        source, bridge = IdentityHolder(), Bridge(connected=False)
        identity = identity_of(front, source)
        link = link_to(9, source, tmp_path, request.addfinalizer)
        await link.renewed(identity, bridge)
        assert len(bridge.why) == 1

    asyncio.run(main())
