"""What the gateway asks of its sensors for the delivery's sake, and what it cries out about.

`resend`: readings that the cloud misses and the gateway no longer has may still be in a sensor's
ring. `renew_epoch`: an epoch that names two readings must not go on. Both are calls that may be
lost and are made again: the cloud asks for a hole at every hello, and a reused epoch shows again
with its next reading.
"""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from plantroom.gateway.ingress import Intake
from plantroom.wire import alarm, envelope, topics
from plantroom.wire.alarms import Standing
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import Call, Span
from plantroom.wire.errors import TopicError
from plantroom.wire.link import Message
from plantroom.wire.topics import GATEWAY

_log = logging.getLogger("plantroom.gateway.asking")
_RANGES_MAX: Final = 64  # of one call, as the sensor takes them
_REMEMBERED_MAX: Final = 10_000
_AGAIN_US: Final = 10_000_000
_TIMEOUT_S: Final = 60.0
_QUIET_US: Final = 60_000_000  # an epoch that was reused, and is not any more
_WAITING_MAX: Final = 1_000

Publish = Callable[[Message], Awaitable[int]]


class Asking:
    """Calls sensors and raises alarms, in the building's broker; none twice within ten seconds."""

    def __init__(self, *, site: str, trust_domain: str, publish: Publish, clock: Clock) -> None:
        self._site = site
        self._prefix = f"spiffe://{trust_domain}/agent/"
        self._publish = publish
        self._clock = clock
        self._said_us: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(_WAITING_MAX)
        self.standing = Standing()
        self._reused_us: dict[str, int] = {}
        self.resends = 0
        self.alarms = 0

    async def run(self) -> None:
        """Publish what was found while readings were derived, until cancelled."""
        while True:
            await self._publish(await self._waiting.get())

    async def resend(self, holes: Sequence[Span]) -> None:
        """Ask sensors for readings that are neither in the cloud nor here."""
        wanted: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for hole in holes:
            wanted.setdefault((hole.device, hole.epoch), []).append((hole.first, hole.last))
        for (device, epoch), ranges in wanted.items():
            if self._lately("resend", device, epoch):
                continue
            for at in range(0, len(ranges), _RANGES_MAX):
                part = ranges[at : at + _RANGES_MAX]
                call = self._call(device, "resend", {"epoch": epoch, "ranges": part})
                if call is not None:
                    self.resends += 1
                    _log.info("asks %s for %s of epoch %d again", device, part[:3], epoch)
                    await self._publish(call)

    def derived(self, intakes: Iterable[Intake]) -> None:
        """Look for epochs that name two readings, and for those that are over."""
        for intake in intakes:
            for epoch in intake.reused:
                self.reused(intake.device, epoch)
            if self._reused_us and intake.rows:
                self._goes_on(intake.device, intake.rows[-1].epoch)

    def _goes_on(self, device: str, epoch: int) -> None:
        """Clear the alarm about an epoch once its device has gone on in a later one for a while."""
        said_us = self._reused_us.get(device)
        if said_us is None or self._clock.monotonic_us() - said_us < _QUIET_US:
            return
        causes = self.standing.causes(self._name("epoch-reuse", device))
        if all(not cause or int(cause) < epoch for cause in causes):
            del self._reused_us[device]
            for cause in causes:
                self.over("epoch-reuse", device, cause, f"it goes on in epoch {epoch}")

    def reused(self, device: str, epoch: int) -> None:
        """Cry out about an epoch that names two readings, and have its device begin a new one."""
        self._reused_us[device] = self._clock.monotonic_us()
        if not self._lately("reuse", device, epoch):
            text = f"epoch {epoch} names two different readings: a clone, or a restored backup"
            self.alarm("epoch-reuse", device, text, cause=str(epoch))
            self._offer(self._call(device, "renew_epoch", {"epoch": epoch}))

    def alarm(self, rule: str, device: str, text: str, *, cause: str = "") -> None:
        """Raise an alarm about a device (its SPIFFE ID, or its name on topics).

        It stands until each of its causes is `over`.
        """
        _log.error("alarm %s of %s: %s", rule, device, text)
        self.alarms += 1
        name = self._name(rule, device)
        self.standing.raised(name, cause)
        self._offer(alarm.raised(*name, text, self._clock.wall_us()))

    def over(self, rule: str, device: str, cause: str, text: str) -> None:
        """Say that one cause of an alarm is gone; with the last of them it is cleared."""
        name = self._name(rule, device)
        if self.standing.over(name, cause):
            _log.info("alarm %s of %s is over: %s", rule, device, text)
            self._offer(alarm.cleared(*name, text, self._clock.wall_us()))

    def _name(self, rule: str, device: str) -> tuple[str, str, str]:
        return self._site, rule, device.removeprefix(self._prefix)

    def _offer(self, message: Message | None) -> None:
        if message is None or self._waiting.full():
            return  # it shows again
        self._waiting.put_nowait(message)

    def _lately(self, what: str, device: str, epoch: int) -> bool:
        key = (what, device, epoch)
        now_us = self._clock.monotonic_us()
        said_us = self._said_us.get(key)
        if said_us is not None and now_us - said_us < _AGAIN_US:
            return True
        self._said_us[key] = now_us
        self._said_us.move_to_end(key)
        if len(self._said_us) > _REMEMBERED_MAX:
            self._said_us.popitem(last=False)
        return False

    def _call(self, device: str, capability: str, data: object) -> Message | None:
        """Return a call to a device of this building; None for any other."""
        if not device.startswith(self._prefix):
            return None
        name = uuid.uuid4().hex
        try:
            topic = topics.build(
                "call/{target}/{capability}/{caller}",
                self._site,
                device.removeprefix(self._prefix),
                capability,
                GATEWAY,
            )
        except TopicError:
            return None
        call = Call(
            id=name,
            reply_to=topics.build("reply/{caller}/{id}", self._site, GATEWAY, name),
            timeout_s=_TIMEOUT_S,
            idempotency_key="",
            data=data,
        )
        return Message(
            topic=topic, payload=envelope.encode(call), content_type=envelope.CONTENT_TYPE
        )
