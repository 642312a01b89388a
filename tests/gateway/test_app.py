"""The gateway as a process of its own, with real certificates, sockets and signals."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs.authority import Authority
from plantroom.certs.enrolled import EnrolledSource, write_bundles, write_token
from plantroom.certs.enrolment_client import Server
from plantroom.certs.registry import Registry
from plantroom.wire import envelope, tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Call, Presence, Reply
from plantroom.wire.errors import RefusedError, UnreachableError
from plantroom.wire.identity import Identity
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.ports import free_port

GATEWAY = SpiffeId("building-1.smart.local", "agent/gateway")


class Process:
    """One gateway on a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.mqtt, self.enrol, self.http = free_port(), free_port(), free_port()
        self.config = folder / "gateway.toml"
        self.write()
        self.child: subprocess.Popen[str] | None = None

    def write(self, **more: str) -> None:
        broker = more.get("broker", "")
        self.config.write_text(
            f'[agent]\nstate = "{self.state}"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.mqtt}\n{broker}\n'
            f'[identity]\nenrol_host = "127.0.0.1"\nenrol_port = {self.enrol}\n'
            f'cloud_enrol_address = "127.0.0.1:1"\n[bridge]\naddress = "127.0.0.1:1"\n'
            f"[http]\nport = {self.http}\n[policy]\npoll_s = 0.1\n"
        )

    def command(self) -> list[str]:
        return [sys.executable, "-m", "plantroom.gateway", str(self.config)]

    def start(self) -> None:
        log = (self.folder / "log").open("a")
        self.child = subprocess.Popen(self.command(), stdout=log, stderr=log, text=True)
        log.close()
        deadline = time.monotonic() + 60
        while self.get("/readyz") != "ready\n":
            assert self.child.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.child is not None
        self.child.send_signal(number)
        return self.child.wait(60)

    def run_to_its_end(self) -> tuple[int, list[str]]:
        done = subprocess.run(
            self.command(), capture_output=True, text=True, timeout=60, check=False
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("plantroom:")]
        assert "Traceback" not in done.stderr
        return done.returncode, lines

    def enrolled(self, name: str = "hvac-001") -> Identity:
        spiffe_id = SpiffeId(GATEWAY.trust_domain, f"agent/{name}")
        registry = Registry.open(self.state / "registry.db")
        registry.create(spiffe_id)
        token = registry.token_create(spiffe_id)
        registry.close()
        authority = Authority.open(
            self.state / "authority", GATEWAY.trust_domain, clock=SystemClock()
        )
        folder = self.folder / name
        write_bundles(folder, {GATEWAY.trust_domain: authority.bundle()})
        write_token(folder, token)
        server = Server(host="127.0.0.1", port=self.enrol, spiffe_id=GATEWAY)
        return EnrolledSource(folder, spiffe_id=spiffe_id, server=server).renew()

    @contextlib.asynccontextmanager
    async def link(self, identity: Identity, name: str = "hvac-001") -> AsyncIterator[MqttLink]:
        context = tls.client_context(identity, server_ids=(GATEWAY,))
        async with MqttLink("127.0.0.1", self.mqtt, name, context, timeout_s=60) as link:
            yield link

    def books(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("/api/status"))["books"]
        return found

    def count(self) -> int:
        return sum(book["count"] for book in self.books())


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    if process.child is not None and process.child.poll() is None:
        process.child.kill()
        process.child.wait(10)


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def message(lab: Any, *seqs: int) -> Message:
    arrival = lab.pack([lab.reading(seq) for seq in seqs])
    return Message(topic=arrival.topic, payload=arrival.payload, user=arrival.user)


def test_a_sensor_enrols_publishes_and_a_kill_loses_nothing(gateway: Process, lab: Any) -> None:
    async def first() -> None:
        identity = await asyncio.to_thread(gateway.enrolled)
        async with gateway.link(identity) as link:
            birth = Presence(online=True, epoch=7, heads={7: 9}, info={"kind": "hvac"})
            topic = "v1/building-1/presence/hvac-001"
            message_ = Message(topic=topic, payload=envelope.encode(birth), retain=True)
            assert await link.publish(message_) == 0
            assert await link.publish(message(lab, 0, 1, 2)) == 0
            foreign = Message(topic="v1/building-1/telemetry/other", payload=b"x")
            assert await link.publish(foreign) == 0x87
            await eventually(lambda: gateway.count() == 3)
            await eventually(lambda: "temperature" in gateway.get("/api/latest"))
            gateway.stop(signal.SIGKILL)

    async def second() -> None:
        identity = await asyncio.to_thread(gateway.enrolled)
        async with gateway.link(identity) as link:
            assert await link.publish(message(lab, 2, 3)) == 0
            await eventually(lambda: gateway.count() == 4)
        [book] = gateway.books()
        assert (book["device"], book["epoch"], book["last"]) == ("hvac-001", 7, 9)
        assert book["ranges"]["received"] == [[0, 3]]
        assert 'plantroom_queue_readings{lane="backfill"} 3' in gateway.get("/metrics")
        history = json.loads(gateway.get("/api/history?device=hvac-001&point=temperature"))
        assert len(history["values"]) == 4

    gateway.start()
    asyncio.run(first())
    gateway.start()
    asyncio.run(second())
    assert gateway.stop() == 0
    assert "Traceback" not in (gateway.folder / "log").read_text()


def test_a_revocation_in_the_registry_cuts_the_sensor_off(gateway: Process, lab: Any) -> None:
    async def scenario() -> None:
        identity = await asyncio.to_thread(gateway.enrolled)
        async with gateway.link(identity) as link:
            assert await link.publish(message(lab, 0)) == 0
            registry = Registry.open(gateway.state / "registry.db")
            registry.deny(SpiffeId(GATEWAY.trust_domain, "agent/hvac-001"), reason="lost")
            registry.close()
            with pytest.raises(UnreachableError):
                await asyncio.wait_for(anext(link.messages()), 60)
        with pytest.raises((RefusedError, UnreachableError)):
            async with gateway.link(identity) as link:
                await link.publish(message(lab, 1))

    gateway.start()
    asyncio.run(scenario())


def test_capabilities_answer_over_the_broker(gateway: Process) -> None:
    async def ask(link: MqttLink, caller: str, capability: str, data: Any) -> int | Reply:
        reply_to = f"v1/building-1/reply/{caller}/{capability}"
        await link.subscribe(reply_to)
        call = Call(
            id=capability,
            reply_to=reply_to,
            timeout_s=1.0,
            idempotency_key=capability,
            data=data,
        )
        topic = f"v1/building-1/call/gateway/{capability}/{caller}"
        code = await link.publish(Message(topic=topic, payload=envelope.encode(call)))
        if code:
            return code
        async with asyncio.timeout(60):
            async for answer in link.messages():
                if answer.topic == reply_to:
                    reply: Reply = envelope.decode(answer.payload, Reply)
                    return reply
        raise AssertionError

    async def answered(link: MqttLink, caller: str, capability: str, data: Any) -> Reply:
        reply = await ask(link, caller, capability, data)
        assert isinstance(reply, Reply)
        return reply

    async def scenario() -> None:
        identity = await asyncio.to_thread(gateway.enrolled)
        async with gateway.link(identity) as link:
            data = {"points": {"temperature": 21.5}}
            taken = await answered(link, "hvac-001", "receive_reading", data)
            assert taken.data["accepted"] is True
            await eventually(lambda: gateway.count() == 1)
            refused = await ask(link, "hvac-001", "aggregate_sensors", {})
            assert refused == 0x87, "the others' readings are none of a sensor's business"
        identity = await asyncio.to_thread(gateway.enrolled, "gateway")
        async with gateway.link(identity, "gateway") as link:
            sensors = await answered(link, "gateway", "aggregate_sensors", {})
            assert sensors.data["sensors"]["hvac-001"]["points"]["temperature"]["value"] == 21.5
            synced = await answered(link, "gateway", "sync_to_cloud", None)
            assert (synced.data["cloud"], synced.data["complete"]) == (False, False)
            assert "known:" in str((await answered(link, "gateway", "no_such_thing", {})).error)

    gateway.start()
    asyncio.run(scenario())


def test_a_second_gateway_on_the_same_state_is_one_clear_line(gateway: Process) -> None:
    gateway.start()
    code, [line] = gateway.run_to_its_end()
    assert code == 3
    assert "another gateway runs on this state folder" in line
    assert str(gateway.state) in line


def test_a_port_in_use_is_one_clear_line(gateway: Process) -> None:
    with socket.create_server(("127.0.0.1", gateway.mqtt)):
        code, [line] = gateway.run_to_its_end()
    assert code == 3
    assert str(gateway.mqtt) in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_one_clear_line(gateway: Process) -> None:
    gateway.state.mkdir(mode=0o500)
    code, [line] = gateway.run_to_its_end()
    assert code == 1
    assert "state folder cannot be written" in line


def test_a_state_folder_that_is_a_file_is_one_clear_line(gateway: Process) -> None:
    gateway.state.write_text("not a folder")
    code, [line] = gateway.run_to_its_end()
    assert code == 1
    assert "state folder cannot be written" in line


def test_an_unknown_key_is_one_clear_line(gateway: Process) -> None:
    gateway.write(broker="prot = 5")
    code, [line] = gateway.run_to_its_end()
    assert code == 3
    assert "broker.prot" in line


def test_a_damaged_queue_is_set_aside_and_service_goes_on(gateway: Process, lab: Any) -> None:
    """Damaged while it stands still, and again while it works."""

    def aside(count: int) -> bool:
        return len(json.loads(gateway.get("/api/status") or "{}").get("set_aside", ())) == count

    async def publish(identity: Identity, *seqs: int) -> None:
        async with gateway.link(identity) as link:
            assert await link.publish(message(lab, *seqs)) == 0
            await eventually(lambda: gateway.count() >= len(seqs))

    async def damaged_at_work(identity: Identity) -> None:
        await publish(identity, 2, 3)
        spoil(gateway.state / "queue.db")
        await eventually(lambda: aside(2))
        await publish(identity, 4)

    gateway.start()
    identity = gateway.enrolled()
    asyncio.run(publish(identity, 0, 1))
    assert gateway.stop() == 0
    spoil(gateway.state / "queue.db")
    gateway.start()
    assert aside(1)
    assert "plantroom_files_set_aside 1" in gateway.get("/metrics")
    asyncio.run(damaged_at_work(identity))
    assert gateway.stop() == 0
    log = (gateway.folder / "log").read_text()
    assert log.count("and a new file is begun") == 2
    assert log.count("alarm file-damaged of gateway: ") == 3  # the second time both files lie there
    assert "Traceback" not in log
    with contextlib.closing(sqlite3.connect(gateway.state / "queue.db")) as database, database:
        database.execute("INSERT INTO retained VALUES('a', x'3009000161', 'w', 1)")
    gateway.start()  # what the broker would stumble over is found before it starts
    assert aside(3)


def spoil(path: Path) -> None:
    """Overwrite all but the first page, and what has not been moved there yet."""
    wal = path.with_name("queue.db-wal")
    for file in (path, wal):
        if file.exists():
            with file.open("r+b") as opened:
                opened.seek(4096)
                opened.write(b"\xa5" * max(0, file.stat().st_size - 4096))
