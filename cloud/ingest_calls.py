"""What ingestion can be asked: `ingest_reading` and `ingest_batch`, for callers without a gateway.

An answer comes after the store's commit. A call that is made again, under the same idempotency key
or with the same content, is one reading: also when the first answer was lost in a restart.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from plantroom.cloud.accepted import Accepted, Given
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.store import Delivery
from plantroom.wire import calls, cbor, given, topics
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import Batch
from plantroom.wire.errors import EnvelopeError, PlantroomError, RefusedError, UsageError
from plantroom.wire.link import Message
from plantroom.wire.reading import Reading, Sample
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import CLOUD_SITE, GATEWAY

LOG = logging.getLogger("plantroom.cloud.ingest_calls")
FILTER: Final = topics.subscription(calls.PATTERN, "+", "ingestion")
READINGS_MAX: Final = 1_000
_CALLS_MAX: Final = 100
_OPERATOR: Final = "cloud:operator:"
_ABILITIES: Final = ("ingest_reading", "ingest_batch")

Publish = Callable[[Message], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """One reading of a call: its place in it, and what names it however often it comes."""

    index: int
    name: bytes
    sample: Sample


class IngestCalls:
    """Answers calls to ingestion, one after the other; a bounded number waits."""

    def __init__(
        self, ingest: Ingest, accepted: Accepted, *, publish: Publish, clock: Clock
    ) -> None:
        self._ingest = ingest
        self._accepted = accepted
        self._publish = publish
        self._clock = clock
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(_CALLS_MAX)
        self.dropped = 0

    def offer(self, message: Message, _publisher: str) -> None:
        """Take a call; beyond the bound it is dropped, and its caller asks again."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            message = await self._waiting.get()
            try:
                asked = calls.read(message)
            except PlantroomError as error:
                LOG.warning("call is refused, %s: %s", message.topic, error)
                continue
            try:
                answer = asked.answer(await self.answer(asked))
            except PlantroomError as error:
                answer = asked.answer(error=str(error))
            await self._publish(answer)

    async def answer(self, asked: calls.Asked) -> Mapping[str, object]:
        """Take what a call gives, and say what became of it.

        Raises:
            PlantroomError: naming what is wrong; then nothing was taken.
        """
        if asked.capability not in _ABILITIES:
            raise UsageError(
                "ingestion has no such capability",
                where=asked.capability,
                remedy=f"known: {', '.join(_ABILITIES)}",
            )
        data = asked.call.data
        single = asked.capability == "ingest_reading"
        tables = [data] if single else _tables(data)
        taken, rejected = self._read(asked, tables)
        if single and rejected:
            raise EnvelopeError(str(rejected[0]["error"]))
        readings = await self._numbered(asked, taken)
        return await self._store(readings, rejected)

    def _read(
        self, asked: calls.Asked, tables: Sequence[Any]
    ) -> tuple[list[_Taken], list[dict[str, object]]]:
        """Read each reading; one that is wrong is rejected alone."""
        now_us = self._clock.wall_us()
        taken, rejected = [], []
        for index, data in enumerate(tables):
            try:
                table = given.table_of(data)
                device = _device(asked, given.device_of(table))
                sample = given.sample_from(table, device=device, now_us=now_us)
            except PlantroomError as error:
                rejected.append({"index": index, "error": str(error)})
                continue
            key = asked.call.idempotency_key or asked.call.id
            name = given.content_name(table, sample)
            name = name or given.key_name(f"{asked.site} {asked.caller}", key, index)
            taken.append(_Taken(index=index, name=name, sample=sample))
        return taken, rejected

    async def _numbered(self, asked: calls.Asked, taken: Sequence[_Taken]) -> list[Reading]:
        unnumbered = [each for each in taken if not isinstance(each.sample, Reading)]
        call = asked.call
        numbers = await self._accepted.number(
            given.key_name(f"{asked.site} {asked.caller}", call.idempotency_key or call.id, -1),
            sha256(cbor.dumps([asked.capability, call.data])).digest(),
            [
                Given(name=one.name, device=one.sample.device, time_us=one.sample.time_us or 0)
                for one in unnumbered
            ],
        )
        found = {
            each.index: Reading.numbered(
                replace(each.sample, time_us=number.time_us), epoch=number.epoch, seq=number.seq
            )
            for each, number in zip(unnumbered, numbers, strict=True)
        }
        return [
            each.sample if isinstance(each.sample, Reading) else found[each.index] for each in taken
        ]

    async def _store(
        self, readings: Sequence[Reading], rejected: Sequence[Mapping[str, object]]
    ) -> Mapping[str, object]:
        by_site: dict[str, list[Reading]] = {}
        for reading in readings:
            by_site.setdefault(SpiffeId.parse(reading.device).site, []).append(reading)
        deliveries = [
            Delivery(
                site=site,
                gateway=GATEWAY,
                batch=Batch(incarnation=0, number=0, lane="live", readings=tuple(members)),
                received_us=self._clock.wall_us(),
            )
            for site, members in by_site.items()
        ]
        counts: Counter[str] = Counter()
        if deliveries:
            done = await self._ingest.give(deliveries)
            spans = [span for receipt in done.receipts for span in receipt.quarantined]
            counts["stored"] = len(done.stored)
            counts["duplicates"] = done.duplicates
            counts["quarantined"] = sum(span.last - span.first + 1 for span in spans)
        return {
            "accepted": not rejected and not counts["quarantined"],
            "count": counts["stored"] + counts["duplicates"],
            "stored": counts["stored"],
            "duplicates": counts["duplicates"],
            "quarantined": counts["quarantined"],
            "rejected": list(rejected),
            "readings": [
                {"device": reading.device, "epoch": reading.epoch, "seq": reading.seq}
                for reading in readings
            ],
        }


def _tables(data: Any) -> Sequence[Any]:
    tables = data.get("readings") if isinstance(data, dict) else data
    if not isinstance(tables, list) or not 0 < len(tables) <= READINGS_MAX:
        raise EnvelopeError(f"readings is a list of 1 to {READINGS_MAX}", where="readings")
    return tables


def _device(asked: calls.Asked, named: str) -> str:
    """Return the device (a SPIFFE ID) if its caller may give its readings.

    An operator may give anybody's, a gateway those of its site, a device its own.
    """
    if not named.startswith("spiffe://"):
        raise EnvelopeError("name the device by its SPIFFE ID", where=named[:80])
    device = SpiffeId.parse(named)
    own = asked.site not in {CLOUD_SITE, ""} and asked.site == device.site
    if not (
        asked.caller.startswith(_OPERATOR)
        or asked.caller == f"cloud:gateway:{device.site}"
        or (own and asked.caller in {GATEWAY, device.name})
    ):
        raise RefusedError("only its own readings may be given", reason="caller", where=named)
    return str(device)
