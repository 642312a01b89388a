"""Live sensors at a steady rate: how long a reading takes from its publish to its receipt.

`python -m tests.bench.deliveries.live` publishes through the gateway's broker and hears the
receipts at the cloud's, where they are published once the store has committed. It prints one line
of JSON with the latencies' percentiles in milliseconds.
"""

import argparse
import asyncio
import json
import ssl
import sys
import time
from pathlib import Path

from plantroom.lab.building import SITE, TRUST_DOMAIN
from plantroom.wire import envelope, senml
from plantroom.wire.envelope import Receipt, Welcome
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.reading import Point, Reading

SENSORS = 5
FIRST = 90_000  # of the generator's names, so that they are nobody else's
_GRACE_S = 30.0
_HOST = "127.0.0.1"


def names() -> list[str]:
    """Return the live sensors."""
    return [f"bench-{FIRST + number:05d}" for number in range(SENSORS)]


class Watch:
    """When each reading was published, and how long its receipt took."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._due_s: dict[tuple[str, int], float] = {}
        self.took_s: list[float] = []

    def published(self, device: str, seq: int, due_s: float) -> None:
        """Note the moment at which a reading was due to be published."""
        self._due_s[device, seq] = due_s

    def receipted(self, receipt: Receipt) -> None:
        """Take the times of what a receipt confirms."""
        now_s = time.monotonic()
        for span in receipt.stored:
            if span.epoch == self._epoch:
                for seq in range(span.first, span.last + 1):
                    due_s = self._due_s.pop((span.device, seq), None)
                    if due_s is not None:
                        self.took_s.append(now_s - due_s)

    @property
    def open(self) -> int:
        """How many wait for their receipt."""
        return len(self._due_s)


def _context(chain: Path, roots: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(roots))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_cert_chain(chain)
    return context


async def _publish(link: MqttLink, name: str, given: argparse.Namespace, watch: Watch) -> None:
    device = f"spiffe://{TRUST_DOMAIN}/agent/{name}"
    period_s = SENSORS / given.rate
    begin_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for seq in range(int(given.seconds / period_s)):
            due_s = begin_s + seq * period_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            point = Point(name="temperature", unit="Cel", value=20 + seq % 50 / 10)
            reading = Reading(
                device=device,
                time_us=time.time_ns() // 1000,
                epoch=given.epoch,
                seq=seq,
                points=(point,),
            )
            watch.published(device, seq, due_s)
            message = Message(
                topic=f"v1/{SITE}/telemetry/{name}",
                payload=senml.encode([reading]),
                user={"range": f"{given.epoch}/{seq}/{seq}"},
            )
            tasks.create_task(link.publish(message))


async def _hear(link: MqttLink, watch: Watch) -> None:
    await link.subscribe(f"v1/{SITE}/receipt/gateway")
    async for message in link.messages():
        answer = envelope.decode(message.payload, Receipt, Welcome)
        if isinstance(answer, Receipt):
            watch.receipted(answer)


async def _main(given: argparse.Namespace) -> None:
    watch = Watch(given.epoch)
    inspector = _context(given.inspector, given.roots)
    async with MqttLink(_HOST, given.cloud_port, "bench-inspector", inspector) as ears:
        hearing = asyncio.create_task(_hear(ears, watch))
        async with asyncio.TaskGroup() as tasks:
            for name in names():
                tasks.create_task(_sensor(name, given, watch))
        give_up_s = time.monotonic() + _GRACE_S
        while watch.open and time.monotonic() < give_up_s:  # noqa: ASYNC110 -- no event of its own
            await asyncio.sleep(0.05)
        hearing.cancel()
    took_ms = sorted(1000 * value for value in watch.took_s)
    said = {
        "readings": len(took_ms),
        "open": watch.open,
        "p50_ms": took_ms[len(took_ms) // 2],
        "p99_ms": took_ms[len(took_ms) * 99 // 100],
    }
    sys.stdout.write(json.dumps(said) + "\n")


async def _sensor(name: str, given: argparse.Namespace, watch: Watch) -> None:
    context = _context(given.identities / f"{name}.pem", given.roots)
    async with MqttLink(_HOST, given.gateway_port, name, context) as link:
        await _publish(link, name, given, watch)


def main() -> None:
    """Publish, wait for the receipts, say how long they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--gateway-port", "--cloud-port", "--epoch"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--identities", "--inspector", "--roots"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--rate", "--seconds"):
        parser.add_argument(name, type=float, required=True)
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
