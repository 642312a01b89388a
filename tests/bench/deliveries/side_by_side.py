"""The same storm over us and over a Mosquitto bridge to a Mosquitto: what is lost, what doubled.

Peers get what applies to them of the schedule: kills of both brokers, and the faults of the way
between them. Their publisher keeps what was not acknowledged and sends it again, as any good
client does, so only what was acknowledged counts as lost. Configurations: `peers/`.
"""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from plantroom.lab.chaos import Storm, Verdict, unleash
from plantroom.lab.chaos_plan import Fault, Weather, schedule
from tests.bench.brokers import contenders
from tests.bench.brokers.contenders import MissingError
from tests.bench.deliveries.stack import Bench, Way
from tests.bench.kit.figures import Figure, missing
from tests.bench.kit.running import free_port

SEED, DURATION_S = 7, 40.0
PROFILES = ("storm", "offline")
_PEERS_BY_SETTING = {
    "Mosquitto bridge to Mosquitto, saving every change": "autosave_on_changes true\n"
    "autosave_interval 1",
    "Mosquitto bridge to Mosquitto, persistence as it ships": "",
}
_PER_S = 30.0
_QUIET_S = 12.0
_RESTART_S = 0.5
_PEERS = Path(__file__).with_name("peers")
_HOST = "127.0.0.1"


def figures(bench: Bench) -> Iterator[Figure]:
    """Run every storm over us and over the peer in both its settings."""
    try:
        contenders.mosquitto(install=True)
    except MissingError as error:
        yield from _missing("Mosquitto", str(error))
        return
    for profile in PROFILES:
        storm = Storm(profile=profile, seed=SEED, duration_s=DURATION_S)
        ours = unleash(storm, tell=bench.say, progress=lambda _text: None)
        bench.say(ours.line)
        for name, autosave in _PEERS_BY_SETTING.items():
            yield from _compared(ours, name, _peer(bench, storm, name, autosave))
    yield from _missing(
        "thingsboard-gateway", "its connectors deliver to a ThingsBoard server, which is not here"
    )


def _missing(name: str, why: str) -> Iterator[Figure]:
    for profile in PROFILES:
        yield missing(
            f"lost and duplicated, profile {profile}", peer_name=name, unit="readings", why=why
        )


def _compared(ours: Verdict, name: str, theirs: Counter[str]) -> Iterator[Figure]:
    storm = ours.storm
    for word in ("lost", "duplicated"):
        mine = float(ours.judged.get(word, -1))
        yield Figure(
            figure=f"{word}, profile {storm.profile}, seed {storm.seed}, {storm.duration_s:g} s",
            unit="readings",
            ours=mine,
            peer=float(theirs[word]),
            peer_name=name,
            target=0,
            ok=mine == 0,
            better="less",
            note=f"of {ours.judged.get('readings')} ours, {theirs['acked']} acknowledged theirs",
        )


class _Broker:
    """A Mosquitto that is started again when it dies."""

    def __init__(self, program: str, folder: Path, template: str, **values: object) -> None:
        folder.mkdir()
        text = (_PEERS / template).read_text(encoding="utf-8")
        for name, value in (values | {"folder": folder}).items():
            text = text.replace(f"{{{name}}}", str(value))
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        (folder / "mosquitto.conf").write_text(text, encoding="utf-8")
        self._log = (folder / "log").open("ab")
        self._ended = threading.Event()
        self.process = self._start()
        self._keeper = threading.Thread(target=self._keep, name=template)

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def _keep(self) -> None:
        while not self._ended.wait(_RESTART_S):
            if self.process.poll() is not None:
                self.process = self._start()

    @contextmanager
    def kept(self) -> Iterator["_Broker"]:
        """Keep it running while the block does."""
        self._keeper.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._keeper.join()
            self.process.terminate()
            self.process.wait()
            self._log.close()


class _Ends:
    """The publisher at the edge and the subscriber at the cloud, with lists of their own."""

    def __init__(self, edge_port: int, cloud_port: int) -> None:
        self.acked: set[int] = set()
        self.received: Counter[int] = Counter()
        self.heard_s = time.monotonic()
        self._numbers: dict[int, int] = {}
        self.subscriber = self._client("bench-subscriber", cloud_port)
        self.subscriber.on_connect = lambda client, *_: client.subscribe("readings/#", qos=1)
        self.subscriber.on_message = self._on_message
        self.publisher = self._client("bench-publisher", edge_port)
        self.publisher.on_publish = self._on_publish

    def _client(self, name: str, port: int) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        client.reconnect_delay_set(1, 2)
        client.max_queued_messages_set(0)
        client.connect_async(_HOST, port, keepalive=5)
        return client

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.received[int(message.payload)] += 1
        self.heard_s = time.monotonic()

    def _on_publish(self, _client: Client, _data: Any, mid: int, *_: Any) -> None:
        number = self._numbers.pop(mid, None)
        if number is not None:
            self.acked.add(number)

    def publish(self, number: int) -> None:
        """Publish the next reading; what cannot be sent now is sent later."""
        info = self.publisher.publish(f"readings/{number % 10}", str(number), qos=1)
        self._numbers[info.mid] = number


def _peer(bench: Bench, storm: Storm, name: str, autosave: str) -> Counter[str]:
    """Run the storm over the peer; count what was acknowledged, lost and delivered twice."""
    program = contenders._find("mosquitto") or "mosquitto"
    folder, ports = bench.folder("mosquitto"), (free_port(), free_port())
    plan = schedule(
        storm.profile, seed=storm.seed, duration_s=storm.duration_s, processes=storm.processes
    )
    values = {"port": ports[1], "autosave": autosave}
    with ExitStack() as opened:
        cloud = _Broker(program, folder / "cloud", "mosquitto-cloud.conf", **values)
        wan = Way(ports[1])
        opened.enter_context(cloud.kept())
        opened.enter_context(wan.running())
        values |= {"port": ports[0], "cloud": wan.way.address}
        edge = _Broker(program, folder / "edge", "mosquitto-edge.conf", **values)
        opened.enter_context(edge.kept())
        ends = _Ends(*ports)
        for client in (ends.subscriber, ends.publisher):
            client.loop_start()
        _suffer(list(plan.faults), {"cloud": cloud, "gateway": edge}, wan, ends)
        while time.monotonic() - ends.heard_s < _QUIET_S:
            time.sleep(0.5)
        for client in (ends.subscriber, ends.publisher):
            client.disconnect()
            client.loop_stop()
    counts = Counter(
        acked=len(ends.acked),
        lost=len(ends.acked - ends.received.keys()),
        duplicated=sum(count - 1 for count in ends.received.values()),
    )
    bench.say(f"{name}: {dict(counts)}")
    return counts


def _suffer(faults: list[Fault], brokers: dict[str, _Broker], wan: Way, ends: _Ends) -> None:
    begin_s, number = time.monotonic(), 0
    ending: list[tuple[float, Fault]] = []
    while (now_s := time.monotonic() - begin_s) < DURATION_S:
        while faults and faults[0].at_s <= now_s:
            fault = faults.pop(0)
            if fault.kind == "kill" and fault.target in brokers:
                os.kill(brokers[fault.target].process.pid, signal.SIGKILL)
            elif fault.target == "wan":
                _begin(fault, wan)
                ending.append((now_s + fault.lasts_s, fault))
        for end_s, fault in [one for one in ending if one[0] <= now_s]:
            ending.remove((end_s, fault))
            _end(wan)
        while number < now_s * _PER_S:
            ends.publish(number)
            number += 1
        time.sleep(0.01)
    _end(wan)
    ends.heard_s = time.monotonic()


def _begin(fault: Fault, wan: Way) -> None:
    if fault.kind == "cut":
        wan.cut()
    elif fault.kind == "swallow":
        wan.swallow()
    elif fault.kind == "throttle":
        wan.way.bytes_per_s = fault.bytes_per_s
    else:
        wan.way.weather = Weather(delay_s=0.5, jitter_s=0.2, loss=0.05)


def _end(wan: Way) -> None:
    wan.way.weather = Weather()
    wan.mend()
