"""What the peers of a storm share: processes that are started again, two ends, and the faults.

Peers get what applies to them of the schedule: kills of their two sides, and the faults of the way
between them. Their publisher keeps what was not acknowledged and sends it again, as any good
client does, so only what was acknowledged counts as lost.
"""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from plantroom.lab.chaos import Storm
from plantroom.lab.chaos_plan import Fault, Weather, schedule
from tests.bench.brokers import contenders
from tests.bench.deliveries.stack import Way

TEMPLATES = Path(__file__).with_name("peers")
HOST = "127.0.0.1"
WARM_UP = -1  # a reading that counts for nothing
_PER_S = 30.0
_QUIET_S = 12.0
_RESTART_S = 0.5
_STOP_S = 10.0


def fill(template: str, path: Path, **values: object) -> Path:
    """Write a configuration of a peer with its ports and folders in place."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    path.write_text(text, encoding="utf-8")
    return path


class Kept:
    """A process of a peer that is started again when it dies."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command, self._folder = command, folder
        self._environment = {**os.environ, **(environment or {})}
        self._log = (folder / "log").open("ab")
        self._ended = threading.Event()
        self.process = self._start()
        self._keeper = threading.Thread(target=self._keep, name=folder.name)

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def _keep(self) -> None:
        while not self._ended.wait(_RESTART_S):
            if self.process.poll() is not None:
                self.process = self._start()

    @contextmanager
    def running(self) -> Iterator["Kept"]:
        """Keep it running while the block does."""
        self._keeper.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._keeper.join()
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self._log.close()


def mosquitto(folder: Path, template: str, **values: object) -> Kept:
    """Start a Mosquitto with one of the configurations here."""
    folder.mkdir(parents=True)
    config = fill(template, folder / "mosquitto.conf", folder=folder, **values)
    return Kept([contenders._find("mosquitto") or "mosquitto", "-c", str(config)], folder)


class Ends:
    """The publisher at the edge and the subscriber at the cloud, with lists of their own.

    `say` makes the payload of a reading, `heard` the readings of what the cloud received.
    """

    def __init__(
        self,
        edge_port: int,
        cloud_port: int,
        *,
        topic_filter: str = "readings/#",
        say: Callable[[int], str] = str,
        heard: Callable[[Client, MQTTMessage], list[int]] = lambda _, m: [int(m.payload)],
    ) -> None:
        self.acked: set[int] = set()
        self.received: Counter[int] = Counter()
        self.heard_s = time.monotonic()
        self._say, self._heard = say, heard
        self._numbers: dict[int, int] = {}
        self.subscriber = self._client("bench-subscriber", cloud_port)
        self.subscriber.on_connect = lambda client, *_: client.subscribe(topic_filter, qos=1)
        self.subscriber.on_message = self._on_message
        self.publisher = self._client("bench-publisher", edge_port)
        self.publisher.on_publish = self._on_publish

    def _client(self, name: str, port: int) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        client.reconnect_delay_set(1, 2)
        client.max_queued_messages_set(0)
        client.connect_async(HOST, port, keepalive=5)
        return client

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        numbers = self._heard(client, message)
        self.received.update(numbers)
        if numbers:
            self.heard_s = time.monotonic()

    def _on_publish(self, _client: Client, _data: Any, mid: int, *_: Any) -> None:
        number = self._numbers.pop(mid, None)
        if number is not None:
            self.acked.add(number)

    def publish(self, number: int) -> None:
        """Publish the next reading; what cannot be sent now is sent later."""
        info = self.publisher.publish(f"readings/{number % 10}", self._say(number), qos=1)
        self._numbers[info.mid] = number

    @contextmanager
    def connected(self) -> Iterator["Ends"]:
        """Work in threads of their own while the block runs."""
        for client in (self.subscriber, self.publisher):
            client.loop_start()
        try:
            yield self
        finally:
            for client in (self.subscriber, self.publisher):
                client.disconnect()
                client.loop_stop()

    @property
    def counts(self) -> "Counter[str]":
        """What was acknowledged, lost, and delivered more than once."""
        received = {n: count for n, count in self.received.items() if n != WARM_UP}
        acked = self.acked - {WARM_UP}
        return Counter(
            acked=len(acked),
            lost=len(acked - received.keys()),
            duplicated=sum(count - 1 for count in received.values()),
        )


def suffer(storm: Storm, sides: Mapping[str, Kept], wan: Way, ends: Ends) -> None:
    """Publish through the storm, then wait until nothing arrives any more."""
    plan = schedule(
        storm.profile, seed=storm.seed, duration_s=storm.duration_s, processes=storm.processes
    )
    faults = list(plan.faults)
    begin_s, number = time.monotonic(), 0
    ending: list[tuple[float, Fault]] = []
    while (now_s := time.monotonic() - begin_s) < storm.duration_s:
        while faults and faults[0].at_s <= now_s:
            fault = faults.pop(0)
            if fault.kind == "kill" and fault.target in sides:
                os.kill(sides[fault.target].process.pid, signal.SIGKILL)
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
    while time.monotonic() - ends.heard_s < _QUIET_S:
        time.sleep(0.5)


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
