"""PyPI's `thingsboard-gateway` with its SQLite storage, in a virtual environment made for the run.

Sensors publish to a Mosquitto at the edge, the gateway's MQTT connector takes it from there, and
where ThingsBoard would be there is a Mosquitto whose one subscriber answers the only question that
the gateway asks at its start. Only the gateway is killed at the edge: what its Mosquitto has
acknowledged waits there for it. Configurations: `peers/`.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage

from plantroom.lab.chaos import Storm
from tests.bench.brokers.contenders import MissingError
from tests.bench.deliveries import peer
from tests.bench.deliveries.peer import Ends, Kept
from tests.bench.deliveries.stack import Bench, Way
from tests.bench.kit.running import free_port

NAME = "thingsboard-gateway, SQLite storage"
_VERSION = "3.8.5"
_INSTALL_S = 300.0
_READY_S = 60.0
_LIMITS = {"maxPayloadSize": 65_536, "rateLimits": {}, "gatewayRateLimits": {}}


def program(bench: Bench) -> Path:
    """Install it; return its command.

    Raises:
        MissingError: when it cannot be installed.
    """
    folder = bench.folder("thingsboard")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin/pip"), "install", "--quiet", f"thingsboard-gateway=={_VERSION}"],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise MissingError("its installation does not end") from None
        if done.returncode:
            raise MissingError(f"it cannot be installed: {done.stderr.strip()[-200:]}")
    return folder / "bin/thingsboard-gateway"


def run(bench: Bench, command: Path, storm: Storm) -> Counter[str]:
    """Run a storm over it; count what was acknowledged, lost and delivered twice.

    Raises:
        MissingError: when it does not come up.
    """
    folder, edge_port, cloud_port = bench.folder("tb"), free_port(), free_port()
    every = {"autosave": "autosave_on_changes true\nautosave_interval 1"}
    with ExitStack() as opened:
        edge = peer.mosquitto(folder / "edge", "mosquitto-cloud.conf", port=edge_port, **every)
        cloud = peer.mosquitto(folder / "cloud", "mosquitto-cloud.conf", port=cloud_port, **every)
        opened.enter_context(edge.running())
        opened.enter_context(cloud.running())
        wan = opened.enter_context(Way(cloud_port).running())
        ends = Ends(edge_port, cloud_port, topic_filter="v1/#", say=_said, heard=_heard)
        opened.enter_context(ends.connected())
        gateway = _gateway(folder / "gateway", command, edge_port, wan.way.address)
        opened.enter_context(gateway.running())
        _until_through(ends)
        peer.suffer(storm, {"cloud": cloud, "gateway": gateway}, wan, ends)
    bench.say(f"{NAME}: {dict(ends.counts)}")
    return ends.counts


def _gateway(folder: Path, command: Path, edge_port: int, cloud: str) -> Kept:
    config = folder / "config"
    config.mkdir(parents=True)
    host, _, port = cloud.partition(":")
    peer.fill("tb_gateway.json", config / "tb_gateway.json", host=host, port=port)
    peer.fill("tb_mqtt.json", config / "mqtt.json", port=edge_port)
    environment = {"TB_GW_CONFIG_DIR": f"{config}/", "TB_GW_LOGS_PATH": str(folder)}
    return Kept([str(command)], folder, environment)


def _said(number: int) -> str:
    """Give each reading a time of its own: ThingsBoard knows a value by its time."""
    return json.dumps({"ts": time.time_ns() // 1_000_000, "n": number})


def _heard(client: Client, message: MQTTMessage) -> list[int]:
    """Answer what the gateway asks at its start; return what it delivers."""
    if message.topic.startswith("v1/devices/me/rpc/request/"):
        client.publish(message.topic.replace("request", "response"), json.dumps(_LIMITS), qos=1)
    if message.topic != "v1/gateway/telemetry":
        return []
    devices = json.loads(message.payload).values()
    return [one["values"]["n"] for readings in devices for one in readings]


def _until_through(ends: Ends) -> None:
    """Wait until something comes through."""
    give_up_s, begin_s = time.monotonic() + _READY_S, ends.heard_s
    while ends.heard_s == begin_s:
        if time.monotonic() > give_up_s:
            raise MissingError(f"nothing comes through it within {_READY_S:g} s")
        ends.publish(peer.WARM_UP)
        time.sleep(1.0)
