"""What the gateway can be asked: `receive_reading`, `aggregate_sensors`, `sync_to_cloud`.

Who asks stands in the call's topic, where the broker has checked it. A call that is repeated under
its idempotency key gets the answer that it had.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from plantroom.gateway.bridge import Bridge
from plantroom.gateway.crossing import CLOUD_CALLER
from plantroom.gateway.ingress import GIVEN, device_id
from plantroom.views.board import Board
from plantroom.wire import calls, cbor, given, senml, senml_record, topics
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import Call, Reply
from plantroom.wire.errors import EnvelopeError, PlantroomError, RefusedError, UsageError
from plantroom.wire.link import Message
from plantroom.wire.reading import Reading, Sample
from plantroom.wire.rfc3339 import format_us
from plantroom.wire.topics import GATEWAY, check_level

_log = logging.getLogger("plantroom.gateway.capabilities")
_CALLS_MAX: Final = 100
_ANSWERS_MAX: Final = 1_000
_SYNC_TIMEOUT_S: Final = 25.0
_OPERATOR: Final = CLOUD_CALLER + "operator:"
_FAILURE: Final = 0x80

Publish = Callable[[Message], Awaitable[int]]
_Ability = Callable[[str, Call, float], Awaitable[Mapping[str, object]]]
Known = Callable[[str, Sequence[bytes]], Awaitable[bool]]


class Capabilities:
    """Answers calls to the gateway, a bounded number at a time."""

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        *,
        site: str,
        trust_domain: str,
        board: Board,
        bridge: Bridge,
        publish: Publish,
        clock: Clock,
        known: Known,
    ) -> None:
        self._site = site
        self._trust_domain = trust_domain
        self._board = board
        self._bridge = bridge
        self._publish = publish
        self._clock = clock
        self._known = known
        self._calls: asyncio.Queue[Message] = asyncio.Queue(_CALLS_MAX)
        self._answers: OrderedDict[tuple[str, str, str], Reply] = OrderedDict()
        self._abilities: dict[str, _Ability] = {
            "receive_reading": self._receive_reading,
            "aggregate_sensors": self._aggregate_sensors,
            "sync_to_cloud": self._sync_to_cloud,
        }
        self.dropped = 0

    @property
    def topic_filter(self) -> str:
        """The filter of the calls to this gateway."""
        return topics.subscription(calls.PATTERN, self._site, GATEWAY)

    def offer(self, message: Message, _publisher: str) -> None:
        """Take a call; beyond the bound it is dropped, and its caller times out and asks again."""
        try:
            self._calls.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            gate = asyncio.Semaphore(_CALLS_MAX)
            while True:
                message = await self._calls.get()
                await gate.acquire()
                task = tasks.create_task(self._handle(message), name="gateway.call")
                task.add_done_callback(lambda _: gate.release())

    async def _handle(self, message: Message) -> None:
        try:
            asked = calls.read(message)
        except PlantroomError as error:
            _log.warning("call is refused, %s: %s", message.topic, error)
            return
        reply = await self._answer(asked.capability, asked.caller, asked.call)
        await self._publish(asked.answer(reply.data, error=reply.error))

    async def _answer(self, capability: str, caller: str, call: Call) -> Reply:
        key = (caller, capability, call.idempotency_key)
        known = self._answers.get(key) if call.idempotency_key else None
        if known is not None:
            return Reply(id=call.id, data=known.data, error=known.error)
        try:
            reply = Reply(id=call.id, data=await self._do(capability, caller, call))
        except PlantroomError as error:
            return Reply(id=call.id, error=str(error))
        self._answers[key] = reply
        if len(self._answers) > _ANSWERS_MAX:
            self._answers.popitem(last=False)
        return reply

    async def _do(self, capability: str, caller: str, call: Call) -> Mapping[str, object]:
        ability = self._abilities.get(capability)
        if ability is None:
            known = ", ".join(self._abilities)
            raise UsageError(
                "the gateway has no such capability", where=capability, remedy=f"known: {known}"
            )
        timeout_s = min(max(call.timeout_s, 0.1), _SYNC_TIMEOUT_S)
        return await ability(caller, call, timeout_s)

    async def _receive_reading(
        self, caller: str, call: Call, _timeout_s: float
    ) -> Mapping[str, object]:
        """Take one reading for a caller that does not publish; it is durable when this answers.

        What names it travels with it, and stays with the queue: given again, it is one reading.
        """
        table = given.table_of(call.data)
        device = _device_of(caller, table)
        spiffe_id = device_id(self._trust_domain, device)
        sample = given.sample_from(table, device=spiffe_id, now_us=self._clock.wall_us())
        content = given.content_name(table, sample)
        names = [given.key_name(caller, call.idempotency_key or call.id)]
        names += [content] if content else []
        known = await self._known(spiffe_id, names)
        if not known:
            await self._take(device, _pack(sample), names)
        now = format_us(self._clock.wall_us())
        counts = {"count": 1, "duplicates": int(known)}
        return {"accepted": True, **counts, "device": device, "time": now}

    async def _take(self, device: str, payload: bytes, names: Sequence[bytes]) -> None:
        message = Message(
            topic=topics.build("telemetry/{device}", self._site, device),
            payload=payload,
            content_type=senml.CONTENT_TYPE,
            user={GIVEN: " ".join(name.hex() for name in names)},
        )
        code = await self._publish(message)
        if code >= _FAILURE:
            raise RefusedError(
                "reading is not accepted: the queue is full",
                reason=f"0x{code:02x}",
                where=device,
                remedy="send it again later",
            )

    async def _aggregate_sensors(
        self, _caller: str, _call: Call, _timeout_s: float
    ) -> Mapping[str, object]:
        """Give every sensor's latest reading, or why there is none."""
        sensors: dict[str, object] = {}
        online = 0
        for key in self._board.devices():
            described = self._board.describe(key)
            if key[1] == GATEWAY or described is None:
                continue
            if described["online"] is False:
                error = f"offline since {described['since'] or 'an unknown time'}"
                sensors[key[1]] = {"status": "offline", "error": error, **described}
            else:
                online += 1
                sensors[key[1]] = {"status": "online", **described}
        now = format_us(self._clock.wall_us())
        return {"sensors": sensors, "total": len(sensors), "online": online, "time": now}

    async def _sync_to_cloud(
        self, _caller: str, _call: Call, timeout_s: float
    ) -> Mapping[str, object]:
        """Bring what is queued to the cloud, as far as that goes in time."""
        before = self._bridge.progress.confirmed
        done = await self._bridge.sync(timeout_s * 0.9)
        last_us = self._bridge.progress.synced_us
        failed = [
            key[1]
            for key in self._board.devices()
            if (described := self._board.describe(key)) and described["online"] is False
        ]
        return {
            "synced": self._bridge.progress.confirmed - before,
            "complete": done,
            "failed": failed,
            "cloud": self._bridge.connected,
            "last_sync": None if last_us is None else format_us(last_us),
        }


def _device_of(caller: str, table: Mapping[str, Any]) -> str:
    """Return whose reading this is: the caller's own; an operator may name another's."""
    device = check_level(given.device_of(table, caller).rpartition("/")[2])
    if device != caller and not caller.startswith(_OPERATOR):
        raise RefusedError("a device may only give its own readings", reason="caller", where=device)
    if ":" in device:
        raise EnvelopeError("data names no device", where="device")
    return device


def _pack(sample: Sample) -> bytes:
    """Return a SenML pack of one reading, without numbers unless it has them."""
    if isinstance(sample, Reading):
        return senml.encode((sample,))
    base: dict[int, object] = {
        senml_record.BN: sample.device + "/",
        senml_record.BT: (sample.time_us or 0) / 1_000_000,
    }
    records = []
    for point in sample.points:
        value = point.value
        label = (
            senml_record.VB
            if isinstance(value, bool)
            else senml_record.VS
            if isinstance(value, str)
            else senml_record.V
        )
        unit = {} if point.unit is None else {senml_record.U: point.unit}
        records.append(base | {senml_record.N: point.name, label: value} | unit)
        base = {}
    return cbor.dumps(records)
