"""What both clients of the Workload API share: addresses, patience, and errors that say where."""

import os
import pwd
import time
from pathlib import Path

import pytest

from plantroom.certs import workload_stream
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.grpc_stream import frame
from plantroom.certs.workload_stream import IdentityStream
from plantroom.wire.errors import ConfigError, IdentityError, RefusedError, UnreachableError
from plantroom.wire.spiffe import SpiffeId
from tests.certs.test_grpc_stream import message, trailers
from tests.fakes.workload_agent import offer, response

PATH = Path("/run/spire/agent.sock")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("unix:/a/b", "/a/b"),
        ("unix:///a/b", "/a/b"),
        ("unix://host/a", None),
        ("unix:a", None),
        ("/a/b", None),
        ("", None),
        ("tcp://127.0.0.1:1", None),
    ],
)
def test_addresses_are_unix_and_absolute(address: str, found: str | None) -> None:
    if found is not None:
        assert str(workload_stream.socket_path(address)) == found
        return
    with pytest.raises(ConfigError, match="not unix:/absolute/path"):
        workload_stream.socket_path(address)


def test_the_sockets_owner_is_a_user_by_name_or_number() -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert workload_stream.owners_of(me) == (os.geteuid(),)
    assert workload_stream.owners_of("4711") == (4711,)
    assert workload_stream.owners_of("") == ()
    with pytest.raises(ConfigError, match="no such user"):
        workload_stream.owners_of("nobody-of-that-name")


def test_retries_are_soon_again(sensor_id: SpiffeId) -> None:
    assert sensor_id
    assert [workload_stream.wait_s(n, chance=1.0) for n in (0, 1, 2, 99)] == [1.0, 2.0, 4.0, 5.0]


def test_patience_ends_when_an_agent_should_have_rotated_long_since(
    building: Authority, sensor_id: SpiffeId
) -> None:
    svid = issue_svid(building, sensor_id, ttl_s=3600)
    now_s = time.time()
    assert 2350 < workload_stream.patience_s(svid, now_s) < 2600
    assert 300 < workload_stream.patience_s(svid, now_s + 3500) < 400  # asked anew, but not always


def test_identities_come_out_and_every_error_names_id_and_socket(
    building: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    wanted, other = (issue_svid(building, one, ttl_s=600) for one in (sensor_id, gateway_id))

    def stream() -> IdentityStream:
        return IdentityStream(PATH, sensor_id)

    first = frame(1, 0x4, 1, b"\x88")
    good = frame(0, 0, 1, message(response(offer(wanted, building))))
    found, replies = stream().receive(first + good)
    assert found is not None
    assert found[0] == wanted
    assert replies
    assert stream().receive(first) == (None, b"")
    bad = frame(0, 0, 1, message(response(offer(other, building))))
    for kind, data in (
        (UnreachableError, b""),
        (UnreachableError, trailers("14", "shutting down")),
        (UnreachableError, good + trailers("0")),
        (RefusedError, trailers("7", "no identity issued")),
        (IdentityError, first + bad),
        (IdentityError, frame(0, 0, 1, message(b"\xff"))),
    ):
        with pytest.raises(kind) as caught:
            stream().receive(data)
        assert caught.value.where == f"{sensor_id} at {PATH}"
        assert caught.value.remedy or kind is IdentityError
