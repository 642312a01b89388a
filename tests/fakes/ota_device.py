"""A device's firmware in memory: a disk whose power can be cut, and the updater in front of it."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from plantroom.certs import light_signatures
from plantroom.device.journal import Journal
from plantroom.device.updater import Updater
from plantroom.device.updater_background import Background
from plantroom.device.updater_download import Nature, Patience
from plantroom.device.updater_record import Record
from plantroom.device.updater_slots import Slots
from plantroom.device.updater_trial import Trial
from plantroom.device.updater_trusted import Trusted
from plantroom.wire import ota_messages, topics
from plantroom.wire.cose import Verify
from plantroom.wire.errors import StorageFullError
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import Get, Report
from tests.fakes.ota_author import KIND, NOW_US, Author

SITE, DEVICE = "building-1", "hvac-001"
MANIFEST_TOPIC = topics.build("ota/{class}/manifest", SITE, KIND)
HEAD_TOPIC = topics.build("ota/head", SITE)


class PowerCutError(Exception):
    """The power has gone: nothing behind this line happens."""


class SimStorage:
    """Files of which a power cut keeps what was synced, and of the rest old, new or half of it."""

    def __init__(self, seed: int = 1) -> None:
        self.durable: dict[str, bytes] = {}
        self.volatile: dict[str, bytearray] = {}
        self.steps = 0
        self.cut_at: int | None = None
        self.room: int | None = None
        self._random = Random(seed)  # noqa: S311 -- a simulation

    def _step(self) -> None:
        self.steps += 1
        if self.cut_at is not None and self.steps == self.cut_at:
            self.cut()
            raise PowerCutError

    def cut(self) -> None:
        for name, data in self.volatile.items():
            fate = self._random.choice(("old", "new", "half"))
            if fate == "new":
                self.durable[name] = bytes(data)
            elif fate == "half":
                old = self.durable.get(name, b"")
                at = self._random.randrange(len(data) + 1)
                self.durable[name] = bytes(data[:at]) + old[at:]
        self.volatile.clear()

    def read(self, name: str, offset: int, size: int) -> bytes:
        data = self.volatile.get(name, self.durable.get(name, b""))
        return bytes(data[offset : offset + size])

    def _writable(self, name: str) -> bytearray:
        return self.volatile.setdefault(name, bytearray(self.durable.get(name, b"")))

    def write(self, name: str, offset: int, data: bytes) -> None:
        self._step()
        content = self._writable(name)
        if offset > len(content):
            content += bytes(offset - len(content))
        content[offset : offset + len(data)] = data

    def reserve(self, name: str, size: int) -> None:
        self._step()
        if self.room is not None and size > self.room:
            raise StorageFullError("no room", where=name, remedy="free disk space")
        content = self._writable(name)
        content += bytes(max(0, size - len(content)))

    def sync(self, name: str) -> None:
        self._step()
        if name in self.volatile:
            self.durable[name] = bytes(self.volatile.pop(name))

    def rename(self, old: str, new: str) -> None:
        self._step()
        assert old not in self.volatile, f"{old} is renamed before it was synced"
        self.volatile.pop(new, None)
        self.durable[new] = self.durable.pop(old)

    def remove(self, name: str) -> None:
        self._step()
        self.volatile.pop(name, None)
        self.durable.pop(name, None)


@dataclass
class SimClock:
    us: int = 1_000_000
    offset_us: int = NOW_US

    def wall_us(self) -> int:
        return self.offset_us + self.us

    def monotonic_us(self) -> int:
        return self.us

    @property
    def now_s(self) -> float:
        return self.us / 1_000_000


@dataclass
class Voice:
    """A self-test that says what it is told to."""

    verdict: bool | None = True
    text: str = ""

    def poll(self) -> bool | None:
        return self.verdict

    def stop(self) -> None:
        """Nothing runs."""


class Inline(Background):
    """Runs at once, on the caller's thread: a power cut goes through it."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.error = None
        self.succeeded = False
        self._act = act
        self._run()

    @property
    def ended(self) -> bool:
        return True


Serve = Callable[[Get], Iterable[tuple[str, bytes]]]


def serving(*images: bytes) -> Serve:
    """Serve these images' chunks, as a gateway does: the last level of the topic, and the bytes."""
    from tests.fakes.ota_author import digest

    held = {digest(image): image for image in images}

    def serve(get: Get) -> Iterable[tuple[str, bytes]]:
        image = held[get.image]
        for number in get.wanted:
            at = number * get.chunk_bytes
            yield str(number), image[at : at + get.chunk_bytes]

    return serve


@dataclass
class SimDevice:
    """A device with its author and its gateway; `boot` starts its process, `run` lets time pass."""

    author: Author = field(default_factory=Author)
    storage: SimStorage = field(default_factory=SimStorage)
    clock: SimClock = field(default_factory=SimClock)
    serve: Serve = field(default_factory=serving)
    healthy: Callable[[bytes], bool | None] = lambda _image: True
    patience: Patience = field(default_factory=Patience)
    verify: Verify = light_signatures.verify
    boots: int = 3
    online: bool = True
    reports: list[Report] = field(default_factory=list)
    asked: list[Get] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.anchor = self.author.trust()
        self.restarted = ""
        self._arriving: deque[tuple[str, bytes]] = deque()

    def boot(self) -> None:
        """Start the process: the installer first, as `updater_setup` does."""
        self.restarted = ""
        self._arriving.clear()
        journal = Journal(level="ERROR", target="stderr", name=DEVICE)
        self.slots = Slots(
            self.storage, version="1.0.0", sequence=0, boots=self.boots, where="record"
        )
        target = self.author.target
        trusted = Trusted(self.storage, self.anchor, target=target, verify=self.verify)
        booted = self.slots.boot()
        trial = None
        if booted.on_trial:
            data = self.storage.read(f"slot-{booted.image.slot}", 0, booted.image.image_bytes)
            voice = Voice(verdict=self.healthy(data))
            deadline_s = self.clock.now_s + 120
            trial = Trial(self.slots, voice, deadline_s=deadline_s, restart=self._restart)
        self.updater = Updater(
            Nature(
                site=SITE,
                device=DEVICE,
                class_name=KIND,
                class_id=target.class_id,
                patience=self.patience,
            ),
            trusted=trusted,
            installer=self.slots,
            booted=booted,
            trial=trial,
            storage=self.storage,
            clock=self.clock,
            journal=journal,
            restart=self._restart,
            start=Inline,
        )
        self.connect()

    def _restart(self, why: str) -> None:
        self.restarted = why

    @property
    def record(self) -> Record:
        return self.slots.record

    @property
    def running(self) -> bytes:
        """The bytes of what runs; none for what the device was made with."""
        image = self.updater.running
        return self.storage.read(f"slot-{image.slot}", 0, image.image_bytes) if image.slot else b""

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish, retained."""
        self.retained[topic] = payload
        self.deliver(topic, payload)

    def release(self, manifest: bytes, version: int = 1) -> None:
        """Publish a manifest and a head that names it."""
        self.publish(MANIFEST_TOPIC, manifest)
        self.publish(HEAD_TOPIC, self.author.head(version, [manifest]))

    def deliver(self, topic: str, payload: bytes) -> None:
        if self.online and hasattr(self, "updater"):
            self.updater.receive(topic, payload, self.clock.now_s)

    def connect(self) -> None:
        if self.online:
            self.updater.connected()
            for topic, payload in self.retained.items():
                self.updater.receive(topic, payload, self.clock.now_s)
            self.updater.contact()

    def step(self) -> None:
        """Do what the uplink does in one round."""
        self.updater.work(self.clock.now_s)
        if not self.online:
            return
        for message in self.updater.messages(self.clock.now_s):
            self._send(message)
        while self._arriving:
            number, data = self._arriving.popleft()
            topic = topics.build("ota/{device}/chunk/{n}", SITE, DEVICE, number)
            self.updater.receive(topic, data, self.clock.now_s)

    def _send(self, message: Message) -> None:
        if topics.parse(message.topic).pattern == "ota/{device}/get":
            get = ota_messages.decode(message.payload, Get)
            self.asked.append(get)
            self._arriving.extend(self.serve(get))
        else:
            self.reports.append(ota_messages.decode(message.payload, Report))

    def run(self, until: Callable[[], object], *, rounds_max: int = 5000) -> bool:
        """Let rounds of half a second pass until something holds; boot again where it restarts."""
        for _ in range(rounds_max):
            if until():
                return True
            self.step()
            if self.restarted:
                self.boot()
            if not self.updater.busy:
                self.clock.us += 500_000
        return bool(until())

    @property
    def states(self) -> list[str]:
        """The states that were reported, repeats and progress left out."""
        seen: list[str] = []
        for report in self.reports:
            word = f"{report.state}({report.code})" if report.code else str(report.state)
            if not seen or seen[-1] != word:
                seen.append(word)
        return seen

    @property
    def state(self) -> str:
        return self.states[-1] if self.reports else ""
