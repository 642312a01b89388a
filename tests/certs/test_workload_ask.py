"""One question and its answer, against gRPC's own server and against ours."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from plantroom.certs import workload_ask
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.registry import Registry
from plantroom.wire import unix_socket
from plantroom.wire.errors import RefusedError, UnreachableError
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.workload_agent import agent_at, offer, response
from tests.fakes.workload_issuer import serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


def test_all_svids_are_told_and_no_entry_is_none(
    path: Path, building: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    offers = [
        offer(issue_svid(building, one, ttl_s=60), building) for one in (sensor_id, gateway_id)
    ]
    with agent_at(path, response(*offers)) as agent:
        assert workload_ask.svids(path).names == (str(sensor_id), str(gateway_id))
        agent.say(None)
        assert workload_ask.svids(path).names == ()
        with pytest.raises(RefusedError) as caught:  # this stand-in has no such method
            workload_ask.bundles(path)
        assert caught.value.reason == "unimplemented"


def test_our_server_tells_bundles_to_whom_it_knows(
    path: Path, building: Authority, cloud: Authority, registry: Registry, sensor_id: SpiffeId
) -> None:
    with serving(building, registry, path, federated=(cloud.bundle(),)) as issuer:
        assert workload_ask.bundles(path) == {}
        registry.create(sensor_id, selectors=(f"unix:uid:{os.geteuid()}",))
        issuer.look()
        found = workload_ask.bundles(path)
        assert {name: one.roots_der for name, one in found.items()} == {
            one.trust_domain: one.bundle().roots_der for one in (building, cloud)
        }


def test_an_agent_that_does_not_answer_is_unreachable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload_ask, "ANSWER_S_MAX", 0.1)
    with pytest.raises(UnreachableError, match="no socket"):
        workload_ask.svids(path)
    with closing(unix_socket.bind(path, mode=0o600)) as listener:
        listener.listen()
        with pytest.raises(UnreachableError, match="does not answer"):
            workload_ask.svids(path)
