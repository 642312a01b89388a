"""Publish a release: its manifest retained, its image chunk by chunk, then watch what comes of it.

The manifest is a plain retained publish, which any MQTT client can do; the upload tells the image
to the cloud, which asks for what it has missed.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from plantroom.certs.roles import CLOUD_TRUST_DOMAIN
from plantroom.lab import calling, tools
from plantroom.lab.calling import Asked
from plantroom.lab.layout import Layout
from plantroom.lab.supervisor import first_complaint
from plantroom.wire import envelope, firmware, ota_messages, suit, topics
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import (
    CheckFailedError,
    EnvelopeError,
    PlantroomError,
    RefusedError,
    UnreachableError,
    UsageError,
)
from plantroom.wire.firmware import Release
from plantroom.wire.head import Rollout
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.ota_messages import Report
from plantroom.wire.ota_states import FINAL_STATES
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import CLOUD_SITE

OTA_ID = SpiffeId(CLOUD_TRUST_DOMAIN, "agent/ota")
UPLOAD_WINDOW = 16
ROUNDS_MAX = 100  # of asking what is missing
STATUS_S = 15.0
STATE_PATTERN, PRESENCE_PATTERN = "ota/{device}/state", "presence/{device}"
WELL = frozenset({"UPDATED", "ALREADY_CURRENT"})
_FAILURE = 0x80
_SETTLE_S = 0.3

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What is published where; `patience_s` 0 does not wait for the devices."""

    manifest: bytes
    image: bytes
    site: str
    kind: str
    rollout: Rollout
    patience_s: float


@dataclass(slots=True)
class Watched:
    """The devices of the class, and the last word of each about this release."""

    release: Release
    kind: str
    expected: set[str] = field(default_factory=set)
    reports: dict[str, Report] = field(default_factory=dict)

    def take(self, message: Message) -> Report | None:
        """Take a message in; return the report if it is about this release."""
        topic = topics.parse(message.topic)
        (device,) = topic.names
        if topic.pattern == PRESENCE_PATTERN:
            presence: Presence = envelope.decode(message.payload, Presence)
            if presence.info.get("kind") == self.kind and "firmware" in presence.info:
                self.expected.add(device)
            return None
        report = ota_messages.decode(message.payload, Report)
        if report.release != self.release.digest:
            return None
        self.reports[device] = report
        return report

    @property
    def missing(self) -> list[str]:
        """Those that have not come to an end."""
        ended = {name for name, one in self.reports.items() if one.state in FINAL_STATES}
        return sorted((self.expected | set(self.reports)) - ended)

    @property
    def ended(self) -> bool:
        """Whether everybody has."""
        return bool(self.reports) and not self.missing


async def publish(layout: Layout, wanted: Publication, *, tell: Show, show: Show) -> Watched:
    """Publish, upload and watch; `tell` is a line for good, `show` is progress.

    Raises:
        RefusedError: when the broker or the cloud refuses.
        UnreachableError: when the cloud is not there, or devices do not end in time.
        CheckFailedError: when the cloud does not take the release.
    """
    release = firmware.read(suit.read(wanted.manifest))
    if not firmware.class_is(wanted.kind, vendor_id=release.vendor_id, class_id=release.class_id):
        raise UsageError(
            "the manifest is for another class", where=wanted.kind, remedy="give its --class"
        )
    watched = Watched(release, wanted.kind)
    failure: BaseException | None = None
    try:
        await _publish(layout, wanted, watched, tell, show)
    except* PlantroomError as group:
        failure = first_complaint(group)  # raised in here it would be a group again
    if failure is not None:
        raise failure
    return watched


async def _publish(
    layout: Layout, wanted: Publication, watched: Watched, tell: Show, show: Show
) -> None:
    release = watched.release
    async with tools.connected(layout, person="operator", broker="cloud") as (link, _):
        await link.subscribe(topics.subscription(PRESENCE_PATTERN, wanted.site))
        await link.subscribe(topics.subscription(STATE_PATTERN, wanted.site))
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(link, watched, tell, show), name="lab.ota-watch")
            try:
                await _offer(link, wanted)
                tell(f"published {release.version} (release {release.digest.hex()[:16]})")
                await _upload(layout, link, release, wanted.image, show)
                tell(f"uploaded {release.chunks.image_bytes} bytes; the cloud has it whole")
                if wanted.patience_s:
                    await _ended(watching, watched, wanted.patience_s)
            finally:
                watching.cancel()


async def _offer(link: MqttLink, wanted: Publication) -> None:
    topic = topics.build("ota/{class}/manifest", wanted.site, wanted.kind)
    user = {"rollout": wanted.rollout}
    code = await link.publish(Message(topic=topic, payload=wanted.manifest, retain=True, user=user))
    if code >= _FAILURE:
        raise RefusedError(
            f"the broker refuses the manifest (reason code 0x{code:02x})",
            reason=f"0x{code:02x}",
            where=topic,
            remedy="see why: plantroom policy explain",
        )


async def _upload(
    layout: Layout, link: MqttLink, release: Release, image: bytes, show: Show
) -> None:
    """Send what the cloud says it misses, until it misses nothing."""
    status = await _status(layout, release)
    for _ in range(ROUNDS_MAX):
        if status.get("complete"):
            return
        if status.get("refused"):
            raise CheckFailedError(
                f"the cloud does not take this release: {status['refused']}",
                where=release.digest.hex(),
                remedy="check it: plantroom ota verify",
            )
        if not status.get("known"):
            await asyncio.sleep(_SETTLE_S)  # the manifest is on its way to the service
        else:
            missing = status.get("missing")
            fresh = status.get("chunks_done") == 0 or not isinstance(missing, list)
            wanted = list(range(release.chunks.count)) if fresh else list(missing or ())
            await _send(link, release, image, wanted, show)
            await asyncio.sleep(_SETTLE_S)
        status = await _status(layout, release)
    raise UnreachableError(
        "the cloud did not take the whole image",
        where=release.image,
        remedy="see its log, and publish again: it goes on where it was",
    )


async def _status(layout: Layout, release: Release) -> dict[str, Any]:
    asked = Asked(
        target=OTA_ID,
        capability="firmware_status",
        data={"release": release.digest.hex()},
        timeout_s=STATUS_S,
    )
    answer = await calling.call(layout, asked, broker="cloud")
    return answer if isinstance(answer, dict) else {}


async def _send(
    link: MqttLink, release: Release, image: bytes, wanted: list[int], show: Show
) -> None:
    waiting: Iterator[int] = iter(wanted)
    done = 0

    async def sender() -> None:
        nonlocal done
        for number in waiting:
            at = number * release.chunks.chunk_bytes
            topic = topics.build("fw/{digest}/{n}", CLOUD_SITE, release.image, str(number))
            data = image[at : at + release.chunks.chunk_bytes]
            code = await link.publish(Message(topic=topic, payload=data))
            if code >= _FAILURE:
                raise RefusedError(
                    "the broker refuses the image", reason=f"0x{code:02x}", where=topic
                )
            done += 1
            show(f"uploading … {done} of {len(wanted)} chunks")

    async with asyncio.TaskGroup() as tasks:
        for number in range(UPLOAD_WINDOW):
            tasks.create_task(sender(), name=f"lab.ota-upload-{number}")


async def _watch(link: MqttLink, watched: Watched, tell: Show, show: Show) -> None:
    said: dict[str, str] = {}
    async for message in link.messages():
        try:
            report = watched.take(message)
        except EnvelopeError:
            continue  # not of this version: no business of this command
        if report is not None:
            device = topics.parse(message.topic).names[0]
            _say(device, report, said, tell, show)
        if watched.ended:
            return


def _say(device: str, report: Report, said: dict[str, str], tell: Show, show: Show) -> None:
    code = f" ({report.code})" if report.code else ""
    if report.state == "DOWNLOADING" and report.chunks:
        show(f"{device}: {report.chunks_done} of {report.chunks} chunks")
    if said.get(device) != report.state + code:
        said[device] = report.state + code
        runs = f", runs {report.running_version}" if report.state in FINAL_STATES else ""
        text = f": {report.text}" if report.text else ""
        tell(f"{device}: {report.state}{code}{runs}{text}")


async def _ended(watching: "asyncio.Task[None]", watched: Watched, patience_s: float) -> None:
    begun_s = time.monotonic()
    done, _ = await asyncio.wait([watching], timeout=patience_s)
    if not done:
        waited_s = round(time.monotonic() - begun_s)
        names = ", ".join(watched.missing) or "nobody has answered"
        raise UnreachableError(
            f"not ended after {waited_s} s: {names}",
            where=watched.release.digest.hex(),
            remedy="it goes on without this command; see plantroom watch 'v1/+/ota/+/state'",
        )
