"""The device's client of the Workload API, against gRPC's own server and against ours."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from plantroom.certs import workload_feed
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.grpc_stream import frame
from plantroom.certs.registry import Registry
from plantroom.certs.workload_feed import WorkloadFeed
from plantroom.wire import unix_socket
from plantroom.wire.errors import IdentityError, PlantroomError, RefusedError, UnreachableError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.certs.test_grpc_stream import message
from tests.fakes.workload_agent import agent_at, offer, response
from tests.fakes.workload_issuer import serving

PATIENCE_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_feed, "wait_s", lambda *_, **__: 0.01)


def next_identity(feed: WorkloadFeed, than: int = 0) -> Identity:
    """Do what the device's keeper does, until there is something newer."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        if feed.due(time.time()):
            with contextlib.suppress(PlantroomError):
                identity = feed.renew()
                if identity.revision > than:
                    return identity
        time.sleep(0.005)
    raise AssertionError("no newer identity came")


def trouble(feed: WorkloadFeed) -> PlantroomError:
    """Renew until that does not work, and say why."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        try:
            feed.renew()
        except PlantroomError as error:
            return error
        time.sleep(0.005)
    raise AssertionError("nothing went wrong")


def test_it_takes_its_own_svid_and_follows_rotation_and_bundles(
    path: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    first, second = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    other = offer(issue_svid(building, gateway_id, ttl_s=600), building, "external")
    with (
        agent_at(path, response(other, offer(first, building, "internal"))) as agent,
        contextlib.closing(WorkloadFeed(path, sensor_id)) as feed,
    ):
        with pytest.raises(IdentityError) as caught:
            feed.current()
        assert caught.value.reason == "no-svid"
        identity = feed.renew()
        assert identity.svid == first
        assert feed.current() is identity
        assert not feed.due(time.time())
        assert feed.renew() is identity  # the keeper asks every hour, whether it is due or not
        agent.say(response(other, offer(first, building), federated=[cloud]))
        identity = next_identity(feed, identity.revision)
        assert set(identity.bundles) == {building.trust_domain, cloud.trust_domain}
        agent.say(response(other, offer(second, building), federated=[cloud]))
        assert next_identity(feed, identity.revision).svid == second


def test_it_waits_for_the_socket_for_an_entry_and_for_its_own_id(
    path: Path, building: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    wanted, other = (issue_svid(building, one, ttl_s=600) for one in (sensor_id, gateway_id))
    with contextlib.closing(WorkloadFeed(path, sensor_id)) as feed:
        with pytest.raises(UnreachableError, match="no socket"):
            feed.renew()
        with agent_at(path, None) as agent:
            with pytest.raises(RefusedError, match="no identity issued") as caught:
                feed.renew()
            assert str(sensor_id) in caught.value.where
            agent.say(response(offer(other, building)))
            with pytest.raises(IdentityError, match=f"gives {gateway_id}, not this ID"):
                feed.renew()
            agent.say(response(offer(wanted, building)))
            assert next_identity(feed).svid == wanted
        assert isinstance(trouble(feed), UnreachableError)
        assert feed.current().svid == wanted  # what was given stays


def test_an_agent_that_came_back_is_found_again(
    path: Path, building: Authority, sensor_id: SpiffeId
) -> None:
    first, second = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    with contextlib.closing(WorkloadFeed(path, sensor_id)) as feed:
        for number, svid in enumerate((first, second)):
            with agent_at(path, response(offer(svid, building))):
                assert next_identity(feed, number).svid == svid


def test_a_large_response_comes_through_flow_control(
    path: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId
) -> None:
    wanted = issue_svid(building, sensor_id, ttl_s=600)
    filler = offer(issue_svid(cloud, SpiffeId(cloud.trust_domain, "x"), ttl_s=600), cloud)
    said = response(*[filler] * 2500, offer(wanted, building))
    assert len(said) > 2 * 1024 * 1024  # twice our window, and far beyond one frame
    with agent_at(path, said), contextlib.closing(WorkloadFeed(path, sensor_id)) as feed:
        assert feed.renew().svid == wanted


def test_our_own_server_serves_it_and_renews_it_in_time(
    path: Path, building: Authority, cloud: Authority, registry: Registry, sensor_id: SpiffeId
) -> None:
    with (
        serving(building, registry, path, federated=(cloud.bundle(),)) as issuer,
        contextlib.closing(WorkloadFeed(path, sensor_id)) as feed,
    ):
        with pytest.raises(RefusedError, match="no identity issued"):
            feed.renew()
        registry.create(sensor_id, selectors=(f"unix:uid:{os.geteuid()}",), ttl_s=8)
        first = next_identity(feed)
        assert set(first.bundles) == {building.trust_domain, cloud.trust_domain}
        second = next_identity(feed, first.revision)
        assert second.svid.serial != first.svid.serial
        assert second.svid.not_before_s < first.svid.not_after_s
        registry.deny(sensor_id, reason="operator")
        assert isinstance(trouble(feed), RefusedError)
        assert issuer.server.metrics()


def test_a_silent_agent_is_asked_anew_and_keeps_nobody_waiting(
    path: Path, building: Authority, sensor_id: SpiffeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload_feed, "patience_s", lambda *_: 0.05)
    svid = issue_svid(building, sensor_id, ttl_s=600)
    answer = frame(4, 0, 0) + frame(1, 0x4, 1, b"\x88")
    answer += frame(0, 0, 1, message(response(offer(svid, building))))
    with (
        contextlib.closing(unix_socket.bind(path, mode=0o600)) as listener,
        contextlib.closing(WorkloadFeed(path, sensor_id)) as feed,
    ):
        listener.listen()
        silent(feed, monkeypatch)
        listener.accept()[0].close()
        waiting = [*answered(listener, feed, answer)]
        while not feed.due(time.time()):  # it has said nothing for longer than it may
            time.sleep(0.005)
        silent(feed, monkeypatch)
        assert feed.current().svid == svid
        for one in waiting:
            one.close()


def silent(feed: WorkloadFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find that nobody answers, without the whole wait."""
    with monkeypatch.context() as hasty:
        hasty.setattr(workload_feed, "ANSWER_S_MAX", 0.2)
        with pytest.raises(UnreachableError, match="silent"):
            feed.renew()


def answered(listener: socket.socket, feed: WorkloadFeed, answer: bytes) -> list[socket.socket]:
    """Let the feed find an answer in a connection that is then left alone."""
    taken: list[socket.socket] = []

    def serve() -> None:
        one, _ = listener.accept()
        one.sendall(answer)
        taken.append(one)

    thread = threading.Thread(target=serve)
    thread.start()
    feed.renew()
    thread.join(PATIENCE_S)
    return taken


def test_it_loads_nothing_heavy() -> None:
    code = "import sys, plantroom.certs.workload_feed; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"asyncio", "cryptography", "logging", "grpc", "h2", "google.protobuf"}
    assert not heavy & set(done.stdout.split())
