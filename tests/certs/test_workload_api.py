"""The asyncio client of the Workload API, against a server of gRPC's own library."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from plantroom.certs import workload_api
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.grpc_stream import frame
from plantroom.certs.workload_api import WorkloadApiSource
from plantroom.wire import unix_socket
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId
from tests.certs.test_grpc_stream import message
from tests.fakes.waiting import eventually
from tests.fakes.workload_agent import Agent, offer, response


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


def test_the_configured_svid_is_taken_with_all_bundles_and_follows_rotation(
    path: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    first, second = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    other = issue_svid(building, gateway_id, ttl_s=600)

    async def scenario(agent: Agent) -> None:
        source = WorkloadApiSource(path, sensor_id)
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(20):
            identity = await source.changed(0)
            assert identity.svid == first
            assert identity.bundles[cloud.trust_domain].roots_der == cloud.bundle().roots_der
            assert identity.bundles[building.trust_domain].roots_der == building.bundle().roots_der
            agent.say(response(offer(first, building), federated=[cloud]))  # nothing new
            agent.say(response(offer(second, building)))
            identity = await source.changed(identity.revision)
        assert (identity.svid, identity.revision) == (second, 2)
        assert set(identity.bundles) == {building.trust_domain}
        assert agent.metadata["workload.spiffe.io"] == "true"
        running.cancel()

    offers = offer(other, building, "external"), offer(first, building, "internal")
    said = response(*offers, federated=[cloud])
    with contextlib.closing(Agent(path, said)) as agent:
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
    monkeypatch.setattr(workload_api, "wait_s", lambda *_, **__: 0.02)

    async def scenario(stack: contextlib.ExitStack) -> None:
        source = WorkloadApiSource(path, sensor_id)
        running = asyncio.create_task(source.run())
        said = Lines()
        logging.getLogger("plantroom.certs.workload_api").addHandler(said)
        async with asyncio.timeout(20):
            await said.line("no socket")
            agent = stack.enter_context(contextlib.closing(Agent(path, None)))
            await said.line("no identity issued")
            agent.say(response(offer(other, building)))
            await said.line(f"agent gives {gateway_id}")
            agent.say(response(offer(wanted, building)))
            identity = await source.changed(0)
        assert identity.svid == wanted
        assert source.renewals().failures == 0
        logging.getLogger("plantroom.certs.workload_api").removeHandler(said)
        running.cancel()

    with contextlib.ExitStack() as stack:
        asyncio.run(scenario(stack))
    assert len([line for line in caplog.messages if "no socket" in line]) == 1


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
    monkeypatch.setattr(workload_api, "wait_s", lambda *_, **__: 0.02)

    async def scenario() -> None:
        source = WorkloadApiSource(path, sensor_id)
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(20):
            for number, svid in enumerate((first, second)):
                agent = await asyncio.to_thread(Agent, path, response(offer(svid, building)))
                identity = await source.changed(number)
                assert identity.svid == svid
                await asyncio.to_thread(agent.close)
        assert source.current().svid == second
        running.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_an_agent_that_speaks_and_is_gone_at_once_was_heard_all_the_same(
    path: Path,
    building: Authority,
    sensor_id: SpiffeId,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., object],
) -> None:
    """Its words and its end are both there when the loop, busy until then, looks."""
    monkeypatch.setattr(workload_api, "wait_s", lambda *_, **__: 0.005)
    svids = [issue_svid(building, sensor_id, ttl_s=600) for _ in range(3)]
    ready, asked, busy, gone = (threading.Event() for _ in range(4))

    def speak() -> None:
        with contextlib.closing(unix_socket.bind(path, mode=0o600)) as listener:
            listener.listen()
            listener.settimeout(20)
            ready.set()
            for svid in svids:
                with contextlib.closing(listener.accept()[0]) as link:
                    assert link.recv(1)  # what it leaves unread makes its end a reset
                    asked.set()
                    assert busy.wait(20)
                    busy.clear()
                    data = message(response(offer(svid, building)))
                    link.sendall(frame(4, 0, 0) + frame(1, 0x4, 1, b"\x88") + frame(0, 0, 1, data))
                gone.set()

    async def scenario() -> None:
        source = WorkloadApiSource(path, sensor_id)
        running = asyncio.create_task(source.run())
        for number, svid in enumerate(svids):
            await eventually(lambda: asked.is_set() or running.done())
            asked.clear()
            busy.set()
            assert gone.wait(20)  # holds the loop up
            gone.clear()
            async with asyncio.timeout(20):
                assert (await source.changed(number)).svid == svid
        assert not running.done()
        running.cancel()

    thread = threading.Thread(target=speak)
    thread.start()
    assert ready.wait(20)
    run(scenario())
    thread.join(20)


class Ended:
    """A writer as uvloop's once its connection has ended: to write is an error then."""

    def __init__(self) -> None:
        self._ended = False

    def write(self, _data: bytes) -> None:
        if self._ended:
            raise RuntimeError("the handler is closed")
        self._ended = True  # with the request: what follows has been read already

    def is_closing(self) -> bool:
        return self._ended

    def close(self) -> None:
        return

    async def wait_closed(self) -> None:
        raise ConnectionResetError


def test_an_agent_that_cannot_be_answered_any_more_ends_no_process(
    path: Path, building: Authority, sensor_id: SpiffeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    svids = [issue_svid(building, sensor_id, ttl_s=600) for _ in range(2)]
    left = iter(svids)
    monkeypatch.setattr(workload_api, "wait_s", lambda *_, **__: 0.005)
    monkeypatch.setattr(unix_socket, "dial", lambda *_, **__: None)

    async def connect(**_: object) -> tuple[asyncio.StreamReader, Ended]:
        svid = next(left, None)
        if svid is None:
            raise ConnectionRefusedError
        reader = asyncio.StreamReader()
        reader.feed_data(frame(4, 0, 0) + frame(1, 0x4, 1, b"\x88"))
        reader.feed_data(frame(0, 0, 1, message(response(offer(svid, building)))))
        reader.feed_eof()
        return reader, Ended()

    monkeypatch.setattr(asyncio, "open_unix_connection", connect)

    async def scenario() -> None:
        source = WorkloadApiSource(path, sensor_id)
        running = asyncio.create_task(source.run())
        await eventually(lambda: source.renewals().failures > len(svids) or running.done())
        assert not running.done()
        assert source.current().svid == svids[-1]
        running.cancel()

    asyncio.run(scenario())


def test_an_agent_that_hangs_holds_nobody_up(
    path: Path, building: Authority, sensor_id: SpiffeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    svid = issue_svid(building, sensor_id, ttl_s=600)
    monkeypatch.setattr(workload_api, "wait_s", lambda *_, **__: 0.02)

    async def scenario(stack: contextlib.ExitStack) -> None:
        source = WorkloadApiSource(path, sensor_id)
        with contextlib.closing(unix_socket.bind(path, mode=0o600)) as hanging:
            hanging.listen(0)
            waiting = unix_socket.dial(path, owners=(), timeout_s=1)
            stack.enter_context(contextlib.closing(waiting))  # nobody else fits in
            running = asyncio.create_task(source.run())
            await eventually(
                lambda: source.renewals().failures, deadline_s=8
            )  # connecting may take 10 s
            assert "nobody listens" in str(source.renewals().last_error)
        agent = stack.enter_context(contextlib.closing(await asyncio.to_thread(Agent, path, None)))
        agent.say(response(offer(svid, building)))
        assert (await asyncio.wait_for(source.changed(0), 20)).svid == svid
        running.cancel()

    with contextlib.ExitStack() as stack:
        asyncio.run(scenario(stack))


def test_a_bundle_known_at_first_hand_stands_before_the_agents_copy(
    path: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId, tmp_path: Path
) -> None:
    first, second = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    newer = Authority.open(tmp_path / "newer", cloud.trust_domain, clock=building._clock).bundle()

    async def scenario(agent: Agent) -> None:
        source = WorkloadApiSource(path, sensor_id, told_of=(cloud.trust_domain,))
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(20):
            identity = await source.changed(0)
            assert identity.bundles[cloud.trust_domain].roots_der == cloud.bundle().roots_der
            assert source.set_bundle(newer)
            assert not source.set_bundle(TrustBundle(trust_domain="a.b", roots_der=()))
            source.trust(building.bundle())  # one's own comes from the agent alone
            identity = await source.changed(identity.revision)
            assert identity.bundles[cloud.trust_domain] == newer
            assert source.set_bundle(newer)
            assert source.current() is identity
            source.trust(cloud.bundle())  # what was kept from before stands behind
            assert source.current() is identity
            third = TrustBundle(trust_domain="a.b", roots_der=newer.roots_der)
            source.trust(third)  # but it counts where no agent has a word
            identity = await source.changed(identity.revision)
            assert identity.bundles["a.b"] == third
            agent.say(response(offer(second, building), federated=[cloud]))
            identity = await source.changed(identity.revision)
            assert identity.bundles[cloud.trust_domain] == newer
        running.cancel()

    said = response(offer(first, building), federated=[cloud])
    with contextlib.closing(Agent(path, said)) as agent:
        asyncio.run(scenario(agent))
