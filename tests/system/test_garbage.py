"""What breaks a rule is named or set apart, and the next good reading goes through."""

import asyncio
import contextlib
import datetime as dt
import json
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cbor2
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from plantroom.lab.building import GATEWAY_ID, TRUST_DOMAIN
from plantroom.wire import senml, senml_record, tls
from plantroom.wire.identity import Identity
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.reading import Point, Reading
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.waiting import until
from tests.system.conftest import Building, Make
from tests.system.forgery import forged

HOST = "127.0.0.1"
GUEST = SpiffeId(TRUST_DOMAIN, "agent/guest-001")
TOPIC = "v1/building-1/telemetry/guest-001"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Building]:
    building = Building(tmp_path_factory.mktemp("garbage") / "state")
    try:
        building.start("--devices", "1", "--speed", "60")
        building.register(str(GUEST))
        yield building
    finally:
        building.close()


@pytest.fixture
def guest(running: Building) -> Identity:
    return forged(running, "building", GUEST)


def reading(epoch: int, seq: int) -> Reading:
    return Reading(
        device=str(GUEST),
        epoch=epoch,
        seq=seq,
        time_us=int(dt.datetime.now(dt.UTC).timestamp() * 1_000_000),
        points=(Point(name="temperature", unit="Cel", value=20.5),),
    )


def send(
    building: Building, identity: Identity, epoch: int, packs: list[tuple[int, bytes]]
) -> None:
    """Publish each pack under its one seq, as a sensor does."""
    context = tls.client_context(identity, server_ids=[GATEWAY_ID])

    async def sending() -> None:
        async with MqttLink(HOST, building.port_base, GUEST.name, context) as link:
            for seq, payload in packs:
                message = Message(
                    topic=TOPIC,
                    payload=payload,
                    content_type=senml.CONTENT_TYPE,
                    user={"range": f"{epoch}/{seq}/{seq}"},
                )
                assert await link.publish(message) < 0x80

    asyncio.run(sending())


def account(building: Building, epoch: int) -> dict[str, Any]:
    done = building.run("ledger", "show", "--json", "--device", GUEST.name)
    books = json.loads(done.stdout)["books"] if done.returncode == 0 else []
    return next((book for book in books if book["epoch"] == epoch), {})


def is_settled(building: Building, epoch: int) -> bool:
    cloud = account(building, epoch).get("cloud") or {"count": 0, "excused": []}
    return cloud["count"] == 2 and bool(cloud["excused"])


def bad_packs(epoch: int) -> dict[str, bytes]:
    good = senml.encode([reading(epoch, 1)])
    (record,) = cbor2.loads(good)
    not_a_number = [{**record, senml_record.V: float("nan")}]
    key_twice = b"\x81\xa2" + cbor2.dumps(senml_record.BN) + cbor2.dumps("a/") + good[2:4] + b"\x01"
    return {
        "truncated": good[:-3],
        "not-a-number": cbor2.dumps(not_a_number),
        "duplicate-keys": key_twice + cbor2.dumps(senml_record.BN) + cbor2.dumps("b/"),
        "not-cbor": b"\xff\xfe hello",
        "empty": b"",
        "trailing": good + b"\x00",
    }


@pytest.mark.parametrize("number", range(6))
def test_a_bad_pack_is_quarantined_with_its_range_and_the_next_one_is_stored(
    running: Building, guest: Identity, number: int
) -> None:
    epoch = 1_000_000 + number
    payload = list(bad_packs(epoch).values())[number]
    send(
        running,
        guest,
        epoch,
        [
            (0, senml.encode([reading(epoch, 0)])),
            (1, payload),
            (2, senml.encode([reading(epoch, 2)])),
        ],
    )
    until(
        partial(is_settled, running, epoch),
        deadline_s=60,
        what="two stored readings and a quarantined one",
    )
    book = account(running, epoch)
    assert book["cloud"]["ranges"] == [[0, 0], [2, 2]]
    assert book["cloud"]["excused"] == [[1, 1]]
    assert book["closes"] is True


def tls_socket(building: Building, identity: Identity) -> ssl.SSLSocket:
    context = tls.client_context(identity, server_ids=[GATEWAY_ID])
    # random bytes may be half a CONNECT, for whose end the broker waits ten seconds
    plain = socket.create_connection((HOST, building.port_base), timeout=60)
    return context.wrap_socket(plain)


def garbage() -> list[bytes]:
    connect = bytes.fromhex("101500044d5154540402003c0009") + b"guest-001"
    too_large = b"\x32" + b"\xff\xff\xff\x7f" + struct.pack(">H", len(TOPIC)) + TOPIC.encode()
    return [
        os.urandom(512),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\xff\xff",
        connect + too_large + bytes(4096),
        connect + b"\xf0\x00",
    ]


@pytest.mark.parametrize("number", range(5))
def test_garbage_closes_its_connection_and_hurts_nobody(
    running: Building, guest: Identity, number: int
) -> None:
    connection = tls_socket(running, guest)
    with connection, contextlib.suppress(ConnectionError, ssl.SSLError):
        connection.sendall(garbage()[number])
        while connection.recv(4096):
            continue
    before = len(running.export("hvac-001"))
    until(
        lambda: len(running.export("hvac-001")) > before,
        deadline_s=60,
        what="the next reading of another device",
    )


def test_plain_bytes_on_the_tls_port_hurt_nobody(running: Building) -> None:
    with socket.create_connection((HOST, running.port_base), timeout=10) as connection:
        connection.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                continue
    until(
        lambda: running.json("status", "--json")["link"]["state"] == "live",
        deadline_s=60,
        what="a link that has nothing to catch up with",
    )


def test_an_ordinary_mqtt_311_client_reads_everything_with_the_inspectors_files(
    running: Building,
) -> None:
    files = running.ready["inspector"]
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="explorer", protocol=paho.MQTTv311)
    client.tls_set(files["ca"], files["cert"], files["key"])
    seen: dict[str, bytes] = {}
    client.on_message = lambda _client, _data, message: seen.update(
        {message.topic: bytes(message.payload)}
    )
    client.on_connect = lambda client, *_: client.subscribe([("#", 1), ("$SYS/#", 0)])
    client.connect("localhost", running.port_base)
    client.loop_start()
    try:
        until(
            lambda: (
                any(topic.startswith("$SYS/broker/") for topic in seen)
                and "v1/building-1/view/hvac-001/temperature" in seen
                and "v1/building-1/presence/hvac-001" in seen
            ),
            deadline_s=60,
            what="$SYS, view and presence topics",
        )
        refused = client.publish("v1/building-1/policy", b"x", qos=1)
        with contextlib.suppress(RuntimeError, ValueError):
            refused.wait_for_publish(2)
        assert not refused.is_published()
    finally:
        client.disconnect()
        client.loop_stop()
    shown = json.loads(seen["v1/building-1/view/hvac-001/temperature"])
    assert set(shown) == {"value", "unit", "time"}


BROKEN = """\
"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"
"1","2015-02-04 17:51:00",23.18," 27.272",426,721.25,0.004,1
"2","2015-02-04 17:52:00",23.15,27.2675,429.5,714,0.004
"3","not a time",23.15,27.245,426,713.5,0.004,1
"4","2015-02-04 17:53:00",oops,27.245,426,713.5,0.004,1
"5","2015-02-04 17:53:00",23.15,27.245,426,713.5,0.004,1
"6","2015-02-04 17:54:00",23.15,27.2,426,708.25,0.004,0
"""


def test_a_broken_recording_is_replayed_as_far_as_it_is_whole(
    make_building: Make, tmp_path: Path
) -> None:
    building = make_building()
    path = tmp_path / "broken.csv"
    path.write_text(BROKEN)
    building.start("--replay", str(path), "--speed", "6000", "--exit-when-stored")
    assert building.wait(deadline_s=60) == 0, building.said() + building.logs()
    rows = building.export("office-001")
    assert [row[0][11:19] for row in rows] == ["17:51:00", "17:53:00", "17:53:00", "17:54:00"]
    assert "Temperature" not in rows[1][1]
    assert rows[0][1]["Humidity"] == "27.272"
    log = (building.state / "logs" / "office-001.log").read_text()
    for line in (3, 4, 5):
        assert f"{path}:{line}:" in log
        assert f"plantroom: office-001: {path}:{line}:" in building.said()
    assert "office-001: 2 rows and 1 cells of broken.csv were left out" in building.said()
