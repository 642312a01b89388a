"""Mosquitto's and amqtt's brokers as targets of our link: what a bridge needs of them."""

import asyncio
import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from tests.broker.foreign.stand import HOST, Address, Files, pem_files
from tests.fakes.issuer import BUILDING, Issuer
from tests.fakes.ports import free_port
from tests.fakes.waiting import until

pytestmark = pytest.mark.filterwarnings("default")  # what other people's code warns of is theirs
START_S = 20.0
AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    plugin = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listener = {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}
    broker = Broker({"listeners": {"default": listener}, "plugins": plugin})
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def listening(port: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "the broker has ended"
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def mosquitto_command(folder: Path, port: int, files: Files | None) -> list[str]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto (Debian's package of that name) is not installed here")
    lines = [f"listener {port} {HOST}", "allow_anonymous true"]
    if files:
        lines += [
            f"certfile {files.cert}",
            f"keyfile {files.key}",
            f"cafile {files.ca}",
            "require_certificate true",
            "tls_version tlsv1.3",
        ]
    config = folder / "mosquitto.conf"
    config.write_text("\n".join(["user root", *lines]) + "\n")
    return [program, "-c", str(config)]


class Target:
    """A foreign broker that runs, and how to reach it."""

    def __init__(self, port: int, versions: tuple[int, ...], files: Files | None) -> None:
        self.port = port
        self.loses = versions == (4,)
        self.versions = versions
        self.files = files

    def link(self, client_id: str, version: int, **options: Any) -> MqttLink:
        context = Address(self.port, self.files).context()
        return MqttLink(HOST, self.port, client_id, context, version=version, **options)


@pytest.fixture(scope="module", params=["mosquitto", "mosquitto-mtls", "amqtt"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    folder, port = tmp_path_factory.mktemp("foreign"), free_port()
    files: Files | None = None
    versions: tuple[int, ...] = (4, 5)
    if request.param == "amqtt":
        command, versions = [sys.executable, "-W", "ignore", "-c", AMQTT, str(port)], (4,)
    else:
        if request.param.endswith("mtls"):
            issuer = Issuer(BUILDING)
            files = pem_files(folder / "client", issuer, "agent/gateway")
            pem_files(folder / "server", issuer, "agent/broker")
        server = Files(*(folder / "server" / f"{name}.pem" for name in ("cert", "key", "ca")))
        command = mosquitto_command(folder, port, server if files else None)
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: listening(port, process), deadline_s=START_S, what="the foreign broker")
        yield Target(port, versions, files)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("version", [4, 5])
def test_link_publishes_and_subscribes_at_qos_1(target: Target, version: int) -> None:
    if version not in target.versions:
        pytest.skip("this broker does not speak MQTT 5")

    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            target.link(f"up-{version}", version) as up,
            target.link(f"down-{version}", version) as down,
        ):
            await down.subscribe(f"t{version}/#", qos=1)
            incoming = down.messages()
            sent = [
                Message(topic=f"t{version}/{number}", payload=b"%d" % number * 500, qos=1)
                for number in range(50)
            ]
            for message in sent:
                assert await up.publish(message) == 0
            got = [await anext(incoming) for _ in sent]
            assert [(m.topic, m.payload, m.qos) for m in got] == [
                (m.topic, m.payload, m.qos) for m in sent
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [4, 5])
def test_link_resumes_its_session_there(target: Target, version: int) -> None:
    if version not in target.versions:
        pytest.skip("this broker does not speak MQTT 5")
    if target.loses:
        pytest.skip("amqtt's broker drops what comes for a session that is away")
    kept: dict[str, Any] = {"clean_start": False, "session_expiry_s": 600}

    async def scenario() -> None:
        async with asyncio.timeout(30):
            async with target.link(f"kept-{version}", version, **kept) as link:
                await link.subscribe(f"k{version}", qos=1)
            async with target.link(f"other-{version}", version) as other:
                assert await other.publish(Message(topic=f"k{version}", payload=b"x", qos=1)) == 0
            async with target.link(f"kept-{version}", version, **kept) as link:
                assert link.session_present
                assert (await anext(link.messages())).payload == b"x"

    asyncio.run(scenario())


def test_nothing_of_ours_complains_of_a_foreign_broker(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(30), target.link("quiet", 4) as link:
            await link.subscribe("#", qos=1)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [r for r in caplog.records if r.name.startswith("plantroom")] == []
