"""A gateway that serves images, over a real broker and real mTLS, and one device's process."""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plantroom.broker.server import Broker
from plantroom.device.updater_setup import TRUST_FILE
from plantroom.wire import ota_messages, topics
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import Get, Report
from tests.device.stand_ins import Gateway
from tests.fakes import ota_author
from tests.fakes.ota_author import KIND, VENDOR, Author

SITE, DEVICE = "building-1", "hvac-001"
PUBLISHER = "spiffe://building-1.smart.local/agent/gateway"


@dataclass
class ImageGateway:
    """Publishes documents and serves chunks; `reports` are (seconds, report) as they came."""

    gateway: Gateway = field(default_factory=Gateway)
    author: Author = field(default_factory=lambda: Author(now_s=int(time.time())))
    images: dict[bytes, bytes] = field(default_factory=dict)
    reports: list[tuple[float, Report]] = field(default_factory=list)
    served: int = 0
    news: threading.Condition = field(default_factory=threading.Condition)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @contextmanager
    def serving(self) -> Iterator["ImageGateway"]:
        """Serve."""
        with self.gateway.serving():
            self.gateway.on_loop(self._watch)
            yield self

    def _watch(self, broker: Broker) -> None:
        broker.watch(topics.subscription("ota/{device}/state", SITE), self._reported)

        def asked(message: Message, _who: str) -> None:
            get = ota_messages.decode(message.payload, Get)
            task = asyncio.get_running_loop().create_task(self._answer(broker, get))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        broker.watch(topics.subscription("ota/{device}/get", SITE), asked)

    def _reported(self, message: Message, _who: str) -> None:
        with self.news:
            report = ota_messages.decode(message.payload, Report)
            self.reports.append((time.monotonic(), report))
            self.news.notify_all()

    async def _answer(self, broker: Broker, get: Get) -> None:
        image = self.images[get.image]
        for number in get.wanted:
            at = number * get.chunk_bytes
            data = image[at : at + get.chunk_bytes]
            topic = topics.build("ota/{device}/chunk/{n}", SITE, DEVICE, str(number))
            await broker.publish(Message(topic=topic, payload=data), publisher=PUBLISHER)
            self.served += 1

    def release(self, image: bytes, sequence: int = 10, version: int = 1) -> None:
        """Publish a release of this image, and a head that names it."""
        self.images[ota_author.digest(image)] = image
        manifest = self.author.manifest(sequence, image)
        messages = [
            (topics.build("ota/{class}/manifest", SITE, KIND), manifest),
            (topics.build("ota/head", SITE), self.author.head(version, [manifest])),
        ]

        def publish(broker: Broker) -> None:
            async def all_of_them() -> None:
                for topic, payload in messages:
                    message = Message(topic=topic, payload=payload, retain=True)
                    await broker.publish(message, publisher=PUBLISHER)

            task = asyncio.get_running_loop().create_task(all_of_them())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        self.gateway.on_loop(publish)

    def wait(self, claim: Callable[[Report], bool], *, deadline_s: float = 60.0) -> float:
        """Wait for a report of which this holds; return when it came."""
        end_s = time.monotonic() + deadline_s
        with self.news:
            while True:
                for at_s, report in self.reports:
                    if claim(report):
                        return at_s
                left_s = end_s - time.monotonic()
                states = [report.state for _, report in self.reports]
                assert left_s > 0, f"did not come: {states[-10:]}"
                self.news.wait(left_s)

    def configure(self, folder: Path, **extra: str) -> Path:
        """Write a device's configuration: identity from files, and this author's trust."""
        svid = self.gateway.device_identity().svid
        (folder / "state").mkdir(parents=True)
        (folder / "chain.pem").write_bytes(svid.chain_pem)
        (folder / "key.pem").write_bytes(svid.key_pem)
        roots = [ssl.DER_cert_to_PEM_cert(root) for root in self.gateway.issuer.bundle().roots_der]
        (folder / "bundle.pem").write_text("".join(roots))
        (folder / "state" / TRUST_FILE).write_bytes(self.author.trust())
        files = {
            name: folder / f"{name.removesuffix('_file')}.pem"
            for name in ("chain_file", "key_file", "bundle_file")
        }
        sections: dict[str, Any] = {
            "agent": f'state = "{folder / "state"}"',
            "identity": 'provider = "files"\n'
            + "\n".join(f'{name} = "{path}"' for name, path in files.items()),
            "uplink": f'address = "127.0.0.1:{self.gateway.port}"\nreconnect_s_max = 1.0',
            "log": 'target = "stderr"\nlevel = "INFO"',
            "updates": f'vendor = "{VENDOR}"',
        }
        path = folder / "device.toml"
        text = "".join(f"[{name}]\n{body}\n" for name, body in (sections | extra).items())
        path.write_text(text)
        return path
