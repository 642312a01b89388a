"""Our Workload API client against a server of gRPC's own library."""

import asyncio
import contextlib
import importlib
import logging
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import workload_api
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.workload_api import WorkloadApiSource
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Svid
from plantroom.wire.spiffe import SpiffeId

grpc: Any = importlib.import_module("grpc")  # it has no types


def field(number: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    size, varint = len(data), b""
    while True:
        size, low = size >> 7, size & 0x7F
        varint += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([number << 3 | 2]) + varint + data


def offer(svid: Svid, authority: Authority, hint: str = "") -> bytes:
    key = serialization.load_pem_private_key(svid.key_pem, None)
    key_der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return field(
        1,
        field(1, str(svid.spiffe_id))
        + field(2, ssl.PEM_cert_to_DER_cert(svid.chain_pem.decode()))
        + field(3, key_der)
        + field(4, b"".join(authority.bundle().roots_der))
        + field(5, hint),
    )


def federated(authority: Authority) -> bytes:
    name = f"spiffe://{authority.trust_domain}"
    return field(3, field(1, name) + field(2, b"".join(authority.bundle().roots_der)))


class Agent:
    """A stand-in for SPIRE's agent: each stream gets what it says now, and what it says next."""

    def __init__(self, path: Path, message: bytes | None) -> None:
        self._said = [message]
        self._news = threading.Condition()
        self.metadata: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(2)
        self._server = grpc.server(self._pool)
        handler = grpc.unary_stream_rpc_method_handler(self._fetch)
        self._server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", {"FetchX509SVID": handler}),
        ))  # fmt: skip
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def _fetch(self, request: bytes, context: Any) -> Iterator[bytes]:
        assert request == b""
        self.metadata = dict(context.invocation_metadata())
        heard = 0
        while context.is_active():
            with self._news:
                if not self._news.wait_for(lambda: len(self._said) > heard, 0.05):  # noqa: B023 -- called at once
                    continue
                heard, message = len(self._said), self._said[-1]
            if message is None:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
            yield message or b""

    def say(self, message: bytes | None) -> None:
        """Say this from now on; None: PermissionDenied, as there is no entry."""
        with self._news:
            self._said.append(message)
            self._news.notify_all()

    def close(self) -> None:
        self._server.stop(0).wait(10)
        self._pool.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


def test_the_configured_svid_is_taken_with_all_bundles_and_follows_rotation(
    path: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    first, second = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    other = issue_svid(building, gateway_id, ttl_s=600)

    async def scenario(agent: Agent) -> None:
        source = WorkloadApiSource(f"unix://{path}", sensor_id)
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(20):
            identity = await source.changed(0)
            assert identity.svid == first
            assert identity.bundles[cloud.trust_domain].roots_der == cloud.bundle().roots_der
            assert identity.bundles[building.trust_domain].roots_der == building.bundle().roots_der
            agent.say(offer(first, building) + federated(cloud))  # nothing new
            agent.say(offer(second, building))
            identity = await source.changed(identity.revision)
        assert (identity.svid, identity.revision) == (second, 2)
        assert set(identity.bundles) == {building.trust_domain}
        assert agent.metadata["workload.spiffe.io"] == "true"
        running.cancel()

    said = offer(other, building, "external") + offer(first, building, "internal")
    with contextlib.closing(Agent(path, said + federated(cloud))) as agent:
        asyncio.run(scenario(agent))


def test_it_waits_for_the_socket_for_an_entry_and_for_its_own_id(  # noqa: PLR0913, PLR0917 -- fixtures
    path: Path,
    building: Authority,
    sensor_id: SpiffeId,
    gateway_id: SpiffeId,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = issue_svid(building, sensor_id, ttl_s=600)
    other = issue_svid(building, gateway_id, ttl_s=600)
    monkeypatch.setattr(workload_api, "retry_after_s", lambda *_, **__: 0.02)

    async def scenario(stack: contextlib.ExitStack) -> None:
        source = WorkloadApiSource(f"unix:{path}", sensor_id)
        running = asyncio.create_task(source.run())
        said = Lines()
        logging.getLogger("plantroom.certs.workload_api").addHandler(said)
        async with asyncio.timeout(20):
            await said.line("no workload API")
            agent = stack.enter_context(contextlib.closing(Agent(path, None)))
            await said.line("no identity issued")
            agent.say(offer(other, building))
            await said.line(f"agent gives {gateway_id}")
            agent.say(offer(wanted, building))
            identity = await source.changed(0)
        assert identity.svid == wanted
        assert source.failures == 0
        logging.getLogger("plantroom.certs.workload_api").removeHandler(said)
        running.cancel()

    with contextlib.ExitStack() as stack:
        asyncio.run(scenario(stack))
    assert len([line for line in caplog.messages if "no workload API" in line]) == 1


class Lines(logging.Handler):
    """Lets a test wait for a line of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.news: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.news.put_nowait(record.getMessage())

    async def line(self, text: str) -> None:
        while text not in await self.news.get():
            pass


def test_an_agent_that_goes_away_is_found_again(
    path: Path, building: Authority, sensor_id: SpiffeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    monkeypatch.setattr(workload_api, "retry_after_s", lambda *_, **__: 0.02)

    async def scenario() -> None:
        source = WorkloadApiSource(f"unix:{path}", sensor_id)
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(20):
            for number, svid in enumerate((first, second)):
                agent = await asyncio.to_thread(Agent, path, offer(svid, building))
                identity = await source.changed(number)
                assert identity.svid == svid
                await asyncio.to_thread(agent.close)
        assert source.current().svid == second
        running.cancel()

    asyncio.run(scenario())


def test_a_link_to_a_socket_is_not_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sock"
    link.symlink_to(path)
    with pytest.raises(IdentityError) as caught:
        workload_api._check_socket(link)
    assert caught.value.reason == "workload-api-address"


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("unix:/a/b", "/a/b"),
        ("unix:///a/b", "/a/b"),
        ("unix://host/a", None),
        ("unix:a", None),
        ("/a/b", None),
        ("tcp://127.0.0.1:1", None),
    ],
)
def test_addresses_are_unix_and_absolute(address: str, found: str | None) -> None:
    try:
        assert str(workload_api.socket_path(address)) == found
    except IdentityError as error:
        assert found is None
        assert error.reason == "workload-api-address"  # noqa: PT017 -- both ways in one table


def test_an_svid_of_a_stranger_under_our_name_is_refused(
    building: Authority, cloud: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    other = issue_svid(building, gateway_id, ttl_s=600)
    message = offer(other, building).replace(str(gateway_id).encode(), b"?" * len(str(gateway_id)))
    with pytest.raises(IdentityError) as caught:
        workload_api.parse_response(message, sensor_id)
    assert caught.value.reason == "wrong-id"
    assert cloud


@given(st.binary(max_size=100))
def test_any_message_is_an_identity_or_a_named_error(data: bytes) -> None:
    with pytest.raises(IdentityError):
        workload_api.parse_response(data, SpiffeId("a.b", "c"))
