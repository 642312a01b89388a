"""Who is not who they should be does not get in, and the audit says why."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import Iterator

import pytest

from plantroom.lab.building import GATEWAY_ID, TRUST_DOMAIN
from plantroom.wire import tls
from plantroom.wire.errors import PlantroomError, RefusedError
from plantroom.wire.identity import Identity
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.waiting import until
from tests.system.conftest import Building, Make
from tests.system.forgery import forged

HOST = "127.0.0.1"
GUEST = SpiffeId(TRUST_DOMAIN, "agent/guest-001")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Building]:
    building = Building(tmp_path_factory.mktemp("refused") / "state")
    try:
        building.start("--devices", "1")
        building.register(str(GUEST))
        yield building
    finally:
        building.close()


def connect_and_publish(building: Building, identity: Identity, client_id: str, topic: str) -> int:
    context = tls.client_context(identity, server_ids=[GATEWAY_ID])

    async def attempt() -> int:
        async with MqttLink(HOST, building.port_base, client_id, context, timeout_s=10.0) as link:
            return await link.publish(Message(topic=topic, payload=b"x"))

    return asyncio.run(attempt())


def audited(building: Building, *parts: str) -> str:
    """Wait for the audit line that has all these parts."""
    log = building.state / "logs" / "gateway.log"

    def found() -> str:
        lines = [line for line in log.read_text().splitlines() if "broker.audit" in line]
        return next((line for line in lines if all(part in line for part in parts)), "")

    return until(found, deadline_s=60, what=f"an audit line with {parts}")


def test_a_client_without_a_certificate_is_refused(running: Building) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(running.state / "inspector" / "ca.pem")
    with socket.create_connection((HOST, running.port_base), timeout=10) as plain:
        mine = plain.getsockname()[1]
        with (  # noqa: PT012 -- TLS 1.3: the refusal comes with the first read
            pytest.raises((ssl.SSLError, ConnectionError)),
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(bytes.fromhex("101000044d5154540502003c000003616263"))
            if not connection.recv(16):
                raise ConnectionError
    audited(running, "event=refused", f":{mine}", "TLS")


def test_the_clouds_certificate_for_a_building_id_is_refused(running: Building) -> None:
    with pytest.raises(PlantroomError):
        connect_and_publish(
            running,
            forged(running, "cloud", GUEST),
            GUEST.name,
            "v1/building-1/telemetry/guest-001",
        )
    line = audited(running, "wrong-trust-domain")
    assert "event=connected" not in line


def test_an_expired_certificate_is_refused(running: Building) -> None:
    yesterday_s = int(dt.datetime.now(dt.UTC).timestamp()) - 86_400
    with pytest.raises(PlantroomError):
        connect_and_publish(
            running,
            forged(running, "building", GUEST, at_s=yesterday_s),
            GUEST.name,
            "v1/building-1/telemetry/guest-001",
        )
    audited(running, "event=refused", "expired")


def test_another_devices_topic_is_refused_with_the_decision(running: Building) -> None:
    topic = "v1/building-1/telemetry/hvac-001"
    code = connect_and_publish(running, forged(running, "building", GUEST), GUEST.name, topic)
    assert code == 0x87
    line = audited(running, "event=publish-denied", str(GUEST), f"topic={topic}")
    assert "reason=topic-not-granted" in line
    assert "decision_id=" in line


def test_another_devices_name_as_client_id_is_refused(running: Building) -> None:
    with pytest.raises(RefusedError):
        connect_and_publish(
            running, forged(running, "building", GUEST), "hvac-001", "v1/building-1/policy"
        )
    audited(running, "event=connect-denied", str(GUEST), "client-id-not-own")


def test_a_device_without_an_entry_is_refused(running: Building) -> None:
    stranger = SpiffeId(TRUST_DOMAIN, "agent/stranger-001")
    with pytest.raises(RefusedError):
        connect_and_publish(
            running, forged(running, "building", stranger), stranger.name, "v1/building-1/policy"
        )
    audited(running, "event=connect-denied", str(stranger), "unregistered")


def test_a_revoked_device_is_cut_off_and_refused_until_it_is_restored(
    make_building: Make,
) -> None:
    building = make_building()
    building.start("--devices", "1")
    assert building.run("devices", "revoke", "hvac-001").returncode == 0
    until(
        lambda: building.json("devices", "ls", "--json")["devices"][1]["online"] is False,
        deadline_s=60,
        what="the end of the revoked device's connection",
    )
    audited(building, "hvac-001", "revoked")
    assert building.run("devices", "restore", "hvac-001").returncode == 0
    until(
        lambda: building.json("devices", "ls", "--json")["devices"][1]["online"],
        deadline_s=60,
        what="the restored device",
    )
