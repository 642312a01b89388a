"""The update service: registers what is published, signs heads, serves images, runs campaigns.

It is an ordinary client of the front broker: everything reaches it as a message, and everything
that it decides is on the disk before it is published. What a retained topic says again after a
reconnect changes nothing.
"""

import contextlib
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from plantroom.cloud import campaign_rules, ota_sites
from plantroom.cloud.campaign import Campaign, Member
from plantroom.cloud.campaign_rules import Told
from plantroom.cloud.ota_images import OtaImages
from plantroom.cloud.ota_registry import Audit, Device, OtaRegistry
from plantroom.cloud.ota_sites import Sites
from plantroom.wire import alarm, calls, envelope, ota_messages, suit, topics
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import (
    PlantroomError,
    RejectedError,
    StorageCorruptError,
    StorageFullError,
    UsageError,
)
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import GATEWAY_IMAGES, Assign, Get, Report
from plantroom.wire.ota_states import FINAL_STATES
from plantroom.wire.topics import CLOUD_SITE, Topic

_log = logging.getLogger("plantroom.cloud.ota")
CLIENT_ID: Final = "ota"
STATE_PATTERN: Final = "ota/{device}/state"
GET_PATTERN: Final = "ota/{device}/get"
ASSIGN_PATTERN: Final = "ota/{device}/assign"
UPLOAD_PATTERN: Final = "fw/{digest}/{n}"
PRESENCE_PATTERN: Final = "presence/{device}"
DEVICES_MAX: Final = 5_000_000
_REFUSALS_MAX: Final = 1_000
_ALARMING: Final = frozenset({"equivocation", "head-equivocation", "bad-signature"})

Answer = Callable[[calls.Asked], Awaitable[object]]


@dataclass(slots=True)
class _Changed:
    """What has to be written before anybody is told."""

    sites: set[str] = field(default_factory=set)
    devices: dict[tuple[str, str], Device] = field(default_factory=dict)
    campaigns: dict[str, Campaign] = field(default_factory=dict)
    members: dict[tuple[str, str, str], Member] = field(default_factory=dict)
    audit: list[Audit] = field(default_factory=list)


class Updates:
    """The state of all updates, and what messages and time do to it."""

    def __init__(
        self, sites: Sites, images: OtaImages, registry: OtaRegistry, clock: Clock
    ) -> None:
        self.sites = sites
        self.images = images
        self.registry = registry
        self.clock = clock
        self.devices: dict[tuple[str, str], Device] = {}
        self.campaigns: dict[str, Campaign] = {}
        self.refused = 0
        self._changed = _Changed()
        self._why_refused: OrderedDict[bytes, str] = OrderedDict()  # by release
        self._outbox: list[Message] = []  # what a call has to say besides its answer
        self._refusals: OrderedDict[bytes, None] = OrderedDict()
        self._handlers: dict[str, Callable[[Message, Topic], Awaitable[list[Message]]]] = {
            ota_sites.TRUST_PATTERN: self._trust,
            ota_sites.HEAD_PATTERN: self._head,
            ota_sites.MANIFEST_PATTERN: self._manifest,
            STATE_PATTERN: self._state,
            ASSIGN_PATTERN: self._assigned,
            GET_PATTERN: self._get,
            PRESENCE_PATTERN: self._presence,
            UPLOAD_PATTERN: self._upload,
            calls.PATTERN: self._call,
        }
        self.answer: Answer = _nobody

    async def restore(self) -> None:
        """Take up what an earlier life knew."""
        known = await self.registry.known()
        for site, kept in known.sites.items():
            self.sites.restore(site, kept)
        self.devices, self.campaigns = known.devices, known.campaigns

    async def take(self, messages: Iterable[Message]) -> list[Message]:
        """Do what messages ask for; what comes back is to be published once it is flushed."""
        said: list[Message] = []
        for message in messages:
            try:
                topic = topics.parse(message.topic)
                handler = self._handlers.get(topic.pattern)
                if handler is not None and message.payload:
                    answers = await handler(message, topic)
                    said += [*self._outbox, *answers]
                    self._outbox.clear()
            except StorageCorruptError:
                raise
            except PlantroomError as error:
                said += self._refuse(message, error)
        return said

    async def tick(self) -> list[Message]:
        """Do what time asks for: deadlines and rates of campaigns, heads that grow old.

        What comes back is to be published once it is flushed.
        """
        now_us = self.clock.wall_us()
        said: list[Message] = []
        for campaign in [*self.campaigns.values()]:
            said += self._step(campaign, now_us)
        for site, messages in self.sites.due(now_us // 1_000_000).items():
            self._changed.sites.add(site)
            said += messages
        return said

    def standing(self) -> list[Message]:
        """Give every site's documents: the front broker may have been replaced."""
        return [message for site in self.sites for message in self.sites.standing(site)]

    # documents

    async def _trust(self, message: Message, topic: Topic) -> list[Message]:
        if self.sites.take_trust(topic.site, message.payload):
            self._changed.sites.add(topic.site)
            self.note("trust", site=topic.site, text=f"document {topic.names[0]}")
        return []

    async def _head(self, message: Message, topic: Topic) -> list[Message]:
        if self.sites.take_head(topic.site, message.payload):
            self._changed.sites.add(topic.site)
            self.note("head", site=topic.site, text="signed elsewhere")
        return []

    async def _manifest(self, message: Message, topic: Topic) -> list[Message]:
        site, name = topic.site, topic.names[0]
        rollout = message.user.get("rollout", "all")
        try:
            return self._register(site, name, message.payload, rollout)
        except PlantroomError as error:
            self._remember_why(message.payload, str(error))
            raise

    def _remember_why(self, manifest: bytes, text: str) -> None:
        """Keep why a release is refused, for whoever asks what became of it."""
        with contextlib.suppress(RejectedError):
            self._why_refused[suit.read(manifest).digest] = text
        if len(self._why_refused) > _REFUSALS_MAX:
            self._why_refused.popitem(last=False)

    def why_refused(self, release: bytes) -> str:
        """Say why a release was refused, or nothing."""
        return self._why_refused.get(release, "")

    def _register(self, site: str, name: str, manifest: bytes, rollout: str) -> list[Message]:
        if rollout not in {"all", "assigned"}:
            raise UsageError("rollout is `all` or `assigned`", where=f"{site} {name}")
        is_new = self.sites.current(site, name)
        release, said = self.sites.take_manifest(
            site, name, manifest, "all" if rollout == "all" else "assigned", self.now_s
        )
        self._why_refused.pop(release.digest, None)
        if said or is_new is None or is_new.digest != release.digest:
            self._changed.sites.add(site)
            text = f"{name} {release.version} ({release.sequence}), rollout {rollout}"
            self.note("registered", site=site, release=release.digest.hex(), text=text)
        return said

    # images

    async def _upload(self, message: Message, topic: Topic) -> list[Message]:
        image, number = topic.names
        release = await self.images.upload(image, number, message.payload)
        if release is not None:
            text = f"{release.chunks.image_bytes} bytes"
            self.note("image-whole", release=release.digest.hex(), text=text)
        return []

    async def _get(self, message: Message, topic: Topic) -> list[Message]:
        if topic.names[0] != GATEWAY_IMAGES:
            return []  # a device's own request is its gateway's affair
        wanted = ota_messages.decode(message.payload, Get)
        if wanted.wanted[0] == 0:
            self.note("download", site=topic.site, device=GATEWAY_IMAGES, text=wanted.image.hex())
        return await self.images.serve(topic.site, wanted)

    # devices and campaigns

    def device(self, site: str, name: str) -> Device:
        """Return what is known of a device.

        Raises:
            StorageFullError: when there are too many.
        """
        key = site, name
        if key not in self.devices:
            if len(self.devices) >= DEVICES_MAX:
                raise StorageFullError(f"more than {DEVICES_MAX} devices report updates")
            self.devices[key] = Device(site=site, device=name)
        return self.devices[key]

    async def _presence(self, message: Message, topic: Topic) -> list[Message]:
        presence: Presence = envelope.decode(message.payload, Presence)
        kind = presence.info.get("kind", "")
        if topic.site == CLOUD_SITE or not kind or kind == GATEWAY_IMAGES:
            return []
        device = self.device(topic.site, topic.names[0])
        if device.kind != kind:
            device.kind = kind
            self._touch(device)
        return []

    async def _state(self, message: Message, topic: Topic) -> list[Message]:
        report = ota_messages.decode(message.payload, Report)
        device = self.device(topic.site, topic.names[0])
        if not device.is_news(report):
            return []
        if (report.state, report.code) != (device.state, device.code):
            self._say_verdict(topic, report)
        device.take(report, self.clock.wall_us())
        self._touch(device)
        for campaign in self.campaigns.values():
            self._hear(campaign, device, report)
        return []

    async def _assigned(self, message: Message, topic: Topic) -> list[Message]:
        """Learn which words a device has had: a registry that was lost must not count anew."""
        device = self.device(topic.site, topic.names[0])
        assign = ota_messages.decode(message.payload, Assign)
        if assign.version > device.assigned:
            device.assigned = assign.version
            self._touch(device)
        return []

    def _say_verdict(self, topic: Topic, report: Report) -> None:
        if report.state in FINAL_STATES or report.state == "DOWNLOADING":
            text = " ".join(filter(None, (report.code, report.version, report.text)))
            where = {"site": topic.site, "device": topic.names[0]}
            event = report.state.lower().replace("_", "-")
            self.note(event, **where, release=report.release.hex(), text=text)

    def _hear(self, campaign: Campaign, device: Device, report: Report) -> None:
        member = campaign.members.get((device.site, device.device))
        if member is None or report.release.hex() != campaign.plan.release:
            return
        if campaign_rules.heard(campaign, member, report, self.clock.wall_us()):
            self._changed.members[campaign.plan.name, member.site, member.device] = member
            self._changed.campaigns[campaign.plan.name] = campaign

    def _step(self, campaign: Campaign, now_us: int) -> list[Message]:
        if campaign.standing not in {"running", "paused"}:
            return []
        before = (campaign.standing, campaign.group)
        fresh = self.enlist(campaign)
        told = campaign_rules.step(campaign, now_us)
        if (campaign.standing, campaign.group) != before:
            text = f"{campaign.plan.name}: {campaign.standing} {campaign.why}".strip()
            self.note("campaign", release=campaign.plan.release, text=text)
        if fresh or told or (campaign.standing, campaign.group) != before:
            self.touch(campaign)
        return self.tell(campaign, told)

    def enlist(self, campaign: Campaign) -> int:
        """Add devices of the release's class that are new; return how many."""
        found = self.sites.find(bytes.fromhex(campaign.plan.release))
        if found is None:
            return 0
        kind = self.sites.class_name(found[0], found[1].digest)
        meant = ((one.site, one.device) for one in self.devices.values() if one.kind == kind)
        fresh = [
            key
            for key in meant
            if self.sites.current(key[0], kind) is not None and key not in campaign.members
        ]
        return campaign_rules.enlist(campaign, fresh)

    def tell(self, campaign: Campaign, told: Iterable[Told]) -> list[Message]:
        """Give the words to devices, each with the next version."""
        said = []
        for one in told:
            device = self.device(one.site, one.device)
            device.assigned += 1
            self._touch(device)
            plan = campaign.plan
            assign = Assign(
                version=device.assigned,
                order=one.order,
                campaign=plan.name,
                release=bytes.fromhex(plan.release),
                not_after_s=one.until_s,
                jitter_s=plan.jitter_s if plan.kind == "soft" else 0,
            )
            topic = topics.build(ASSIGN_PATTERN, one.site, one.device)
            said.append(Message(topic=topic, payload=ota_messages.encode(assign), retain=True))
        return said

    # books

    @property
    def now_s(self) -> int:
        """Unix time, in whole seconds."""
        return self.clock.wall_us() // 1_000_000

    def note(
        self, event: str, *, site: str = "", device: str = "", release: str = "", text: str = ""
    ) -> None:
        """Write a line into the audit."""
        _log.info("%s %s %s %s %s", event, site, device, release[:16], text)
        self._changed.audit.append(
            Audit(
                at_us=self.clock.wall_us(),
                event=event,
                site=site,
                device=device,
                release=release,
                text=text,
            )
        )

    def say(self, messages: Iterable[Message]) -> None:
        """Have messages published before the answer to the call that is being worked on."""
        self._outbox += messages

    def changed(self, site: str) -> None:
        """Have a site's documents written with the next flush."""
        self._changed.sites.add(site)

    def touch(self, campaign: Campaign) -> None:
        """Have a campaign with all its members written with the next flush."""
        self._changed.campaigns[campaign.plan.name] = campaign
        for member in campaign.members.values():
            self._changed.members[campaign.plan.name, member.site, member.device] = member

    def _touch(self, device: Device) -> None:
        self._changed.devices[device.site, device.device] = device

    async def flush(self) -> None:
        """Write what has changed; what could not be written is written with the next try.

        Raises:
            StorageError: when it cannot be written now.
        """
        changed = self._changed
        await self.registry.keep(
            sites=[(site, self.sites.kept(site)) for site in sorted(changed.sites)],
            devices=changed.devices.values(),
            campaigns=changed.campaigns.values(),
            members=[(key[0], member) for key, member in changed.members.items()],
            audit=changed.audit,
        )
        self._changed = _Changed()

    async def _call(self, message: Message, _topic: Topic) -> list[Message]:
        asked = calls.read(message)
        try:
            return [asked.answer(await self.answer(asked))]
        except StorageCorruptError:
            raise
        except PlantroomError as error:
            return [asked.answer(error=str(error))]

    def _refuse(self, message: Message, error: PlantroomError) -> list[Message]:
        """Say once what was wrong with a message; a retained one comes again at each connect."""
        key = hashlib.sha256(message.topic.encode() + b"\0" + message.payload).digest()
        if key in self._refusals:
            return []
        self._refusals[key] = None
        if len(self._refusals) > _REFUSALS_MAX:
            self._refusals.popitem(last=False)
        self.refused += 1
        code = error.code if isinstance(error, RejectedError) else "refused"
        _log.warning("%s is refused (%s): %s", message.topic, code, error)
        site = message.topic.split("/")[1]
        self.note("refused", site=site, text=f"{message.topic}: {code}: {error}")
        if code not in _ALARMING:
            return []
        text = f"{message.topic}: {error}"
        return [alarm.raised(site, f"update-{code}", CLIENT_ID, text, self.clock.wall_us())]


async def _nobody(asked: calls.Asked) -> object:
    raise UsageError("no such capability", where=asked.capability)
