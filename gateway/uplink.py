"""One connection to the cloud: batches out, receipts in, hello and refill, and what else crosses.

It lives as long as its link. Nothing is sent before the cloud has answered a hello: a socket that
is open proves nothing. An answer that stays away for too long ends the connection.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from plantroom.gateway import packing
from plantroom.gateway.comparing import Comparing
from plantroom.gateway.exchange import Exchange
from plantroom.gateway.ingress import REUSE
from plantroom.gateway.lanes import LANES, Flight, Lanes
from plantroom.gateway.line import Taken
from plantroom.gateway.pace import Pace, Progress
from plantroom.gateway.spool import Queue
from plantroom.wire import envelope, topics
from plantroom.wire.clock import Clock
from plantroom.wire.envelope import Hello, Lane, Presence, Receipt, Refill, Span, Welcome
from plantroom.wire.errors import EnvelopeError, TopicError, UnreachableError
from plantroom.wire.link import Link, Message
from plantroom.wire.topics import GATEWAY

_log = logging.getLogger("plantroom.gateway.uplink")
_ANSWERS = ("receipt/{gateway}", "refill/{gateway}")
LATE = "receipts-late"
_FAILURE = 0x80
_TICK_S = 0.25
_IDLE_S = 1.0
_YIELD_S = 0.2
_HELLOS_MAX = 50
_GATHER_S = 1.0
_CLOSING_S = 1.0


class Sensors(Protocol):
    """What is behind the gateway, as far as the delivery asks of it (`gateway.asking.Asking`)."""

    async def resend(self, holes: Sequence[Span]) -> None:
        """Ask for readings that are neither in the cloud nor here."""
        ...

    def reused(self, device: str, epoch: int) -> None:
        """Say that an epoch names two readings."""
        ...

    def alarm(self, rule: str, device: str, text: str, *, cause: str = "") -> None:
        """Raise an alarm."""
        ...

    def over(self, rule: str, device: str, cause: str, text: str) -> None:
        """Say that a cause of an alarm is gone."""
        ...


class Uplink:
    """The stages of one connection."""

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        link: Link,
        queue: Queue,
        lanes: Lanes,
        exchange: Exchange,
        *,
        site: str,
        pace: Pace,
        clock: Clock,
        progress: Progress,
        presence: Callable[[bool], Presence],
        sensors: Sensors,
    ) -> None:
        self._link = link
        self._queue = queue
        self._lanes = lanes
        self._exchange = exchange
        self._site = site
        self._pace = pace
        self._clock = clock
        self._progress = progress
        self._presence = presence
        self._sensors = sensors
        self._comparing = Comparing(sensors, clock)
        self._work = {lane: asyncio.Event() for lane in LANES}
        self._live_idle = asyncio.Event()
        self._live_idle.set()
        self._welcomed = asyncio.Event()
        self._hello_open_us: int | None = None
        self._quiet_us = clock.monotonic_us()
        self._bytes_free_us = 0
        self._tasks: asyncio.TaskGroup | None = None
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Work until the link is lost.

        Raises:
            ExceptionGroup: of UnreachableError and others of PlantroomError.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for pattern in _ANSWERS:
                    await self._link.subscribe(topics.build(pattern, self._site, GATEWAY))
                await self._exchange.subscribe()
                tasks.create_task(self._listen(), name="gateway.uplink-listen")
                tasks.create_task(self._watch(), name="gateway.uplink-watch")
                await self._greet()
                flights = self._lanes.reconnected(self._clock.monotonic_us())
                await self._queue.connected(flights)
                await self._say_presence(online=True)
                self.ready.set()
                for lane in LANES:
                    tasks.create_task(self._send(lane), name=f"gateway.uplink-{lane}")
                tasks.create_task(self._resend(), name="gateway.uplink-resend")
                tasks.create_task(self._hello(), name="gateway.uplink-hello")
                tasks.create_task(self._exchange.run(), name="gateway.uplink-exchange")
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def _leave(self) -> None:
        """Say goodbye where that is still possible; the will says it otherwise."""
        try:
            async with asyncio.timeout(_CLOSING_S):
                await self._say_presence(online=False)
        except (TimeoutError, UnreachableError):
            _log.info("left without a goodbye: the will says it")

    def wake(self) -> None:
        """Say that there may be something to send."""
        for event in self._work.values():
            event.set()

    def stop(self, why: str) -> None:
        """End this connection, so that the bridge makes a new one."""
        if self._tasks is not None:
            self._tasks.create_task(self._fail(why), name="gateway.uplink-stop")

    async def _fail(self, why: str) -> None:
        raise UnreachableError(why)

    async def _say_presence(self, *, online: bool) -> None:
        topic = topics.build("presence/{device}", self._site, GATEWAY)
        payload = envelope.encode(self._presence(online))
        await self._link.publish(Message(topic=topic, payload=payload, retain=True))

    # what comes down

    async def _listen(self) -> None:
        receipt, refill = (topics.build(pattern, self._site, GATEWAY) for pattern in _ANSWERS)
        async for message in self._link.messages():
            try:
                if message.topic == receipt:
                    await self._answered(envelope.decode(message.payload, Receipt, Welcome))
                elif message.topic == refill:
                    await self._refill(envelope.decode(message.payload, Refill))
                else:
                    await self._exchange.down(message)
            except (EnvelopeError, TopicError) as error:
                self._progress.refused += 1
                _log.warning("message from the cloud is refused, %s: %s", message.topic, error)

    async def _answered(self, answer: Receipt | Welcome) -> None:
        if answer.incarnation != self._queue.incarnation:
            self._progress.ignored += 1
            return
        if isinstance(answer, Welcome):
            await self._welcome(answer)
            return
        flight = self._lanes.get(answer.number)
        if flight is None:
            if await self._queue.standing_of(answer.store_id) != "former":
                self._progress.heard()
            return
        if answer.unreadable:
            if await self._queue.standing_of(answer.store_id) == "former":
                self._progress.ignored += 1
                return
            self._progress.heard()
            await self._unreadable(flight)
        else:
            outcome = await self._queue.settle(answer, flight)
            if outcome.standing == "former":
                self._progress.ignored += 1
                return
            self._lanes.answered(flight.number, self._clock.monotonic_us())
            self._progress.heard()
            self._progress.confirmed += outcome.confirmed
            self._sensors.over(LATE, GATEWAY, "", "receipts come again")
            for span in answer.quarantined:
                if span.reason == REUSE:
                    self._sensors.reused(span.device, span.epoch)
        self.wake()

    async def _unreadable(self, flight: Flight) -> None:
        if self._lanes.answered(flight.number, self._clock.monotonic_us()) is None:
            return
        halves = self._lanes.halve(flight)
        _log.warning(
            "batch %d is unreadable for the cloud: %s",
            flight.number,
            f"sent as {len(halves)} parts" if halves else "its one reading is quarantined",
        )
        if not halves:
            await self._queue.set_aside(flight)

    async def _welcome(self, answer: Welcome) -> None:
        found = await self._queue.welcome(answer)
        if found.standing == "former":
            self._progress.ignored += 1
            return
        self._progress.imbalances += self._comparing.heard(found)
        self._progress.heard()
        if answer.number == self._progress.hellos:
            self._hello_open_us = None
        self._progress.synced_us = self._clock.wall_us()
        self._welcomed.set()
        self.wake()

    async def _refill(self, answer: Refill) -> None:
        asks = await self._queue.refill(answer)
        if asks:
            await self._sensors.resend(asks)
        self.wake()

    # hello

    async def _greet(self) -> None:
        """Say hello until it is answered.

        Raises:
            UnreachableError: when nobody answers in time.
        """
        try:
            async with asyncio.timeout(self._pace.answer_timeout_s):
                while not self._welcomed.is_set():
                    await self._say_hello()
                    try:
                        async with asyncio.timeout(self._pace.answer_timeout_s / 4):
                            await self._welcomed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise UnreachableError("the cloud does not answer a hello") from None

    async def _say_hello(self) -> int:
        """Say hello with the books whose turn it is; return how many there were."""
        books = await self._queue.hello_books(
            books_max=self._pace.hello_books_max, bytes_max=self._pace.hello_bytes_max
        )
        self._progress.hellos += 1
        self._hello_open_us = self._hello_open_us or self._clock.monotonic_us()
        self._welcomed.clear()
        known = await self._queue.store_known()
        hello = Hello(
            incarnation=self._queue.incarnation,
            number=self._progress.hellos,
            gateway=GATEWAY,
            books=tuple(books),
            **known._asdict(),
        )
        topic = topics.build("uplink/{gateway}/hello", self._site, GATEWAY)
        await self._publish(Message(topic=topic, payload=envelope.encode(hello)))
        return len(books)

    async def _hello(self) -> None:
        """Tell every book in turn: at connect all of them, then some every few minutes.

        At once when a sensor has numbered more of a former epoch than has come: it may have it.
        """
        unsaid = await self._queue.unsettled()
        for _ in range(_HELLOS_MAX):
            if unsaid <= 0:
                break
            unsaid -= await self._say_hello()
            await self._wait(self._welcomed, self._pace.answer_timeout_s)
        while True:
            await self._wait(self._queue.ahead, self._pace.hello_s)
            await asyncio.sleep(_GATHER_S)  # sensors come back together
            self._queue.ahead.clear()
            await self._say_hello()

    # what goes up

    async def _send(self, lane: Lane) -> None:
        """Send batches of a lane for as long as its window has room."""
        work = self._work[lane]
        while True:
            work.clear()
            half = self._lanes.first(lane)
            if half is not None:
                await self._take_off(half, await self._queue.content(half))
            elif not await self._next_batch(lane):
                await self._wait(work, _IDLE_S)
                if lane == "live":
                    await asyncio.sleep(self._pace.linger_s)

    async def _next_batch(self, lane: Lane) -> bool:
        if not self._lanes.room(lane):
            return False
        live = lane == "live"
        if not live:  # a batch of live that is being packed goes out first
            await self._wait(self._live_idle, _YIELD_S)
        wanted = self._pace.live_readings_max if live else self._pace.backfill_readings_max
        taken = await self._queue.take(
            lane,
            readings_max=wanted,
            bytes_max=self._pace.batch_bytes_max,
            notes_max=self._pace.notes_max,
        )
        if not taken:
            return False
        flight = self._lanes.launch(lane, taken.rows, taken.notes)
        await self._take_off(flight, taken)
        return True

    async def _take_off(self, flight: Flight, taken: Taken) -> None:
        if flight.lane == "live":
            self._live_idle.clear()
        try:
            flight.payload = await asyncio.to_thread(
                packing.pack, self._queue.incarnation, flight, taken
            )
        finally:
            self._live_idle.set()
        self._progress.sent_bytes += len(flight.payload)
        self._progress.sent_readings += len(flight.rows)
        await self._hold_back(flight)
        self._start(flight)

    async def _hold_back(self, flight: Flight) -> None:
        """Keep to the bandwidth cap; live goes first, so only backfill waits."""
        cap = self._pace.bytes_per_s_max
        if not cap or flight.payload is None:
            return
        now_us = self._clock.monotonic_us()
        cost_us = len(flight.payload) * 1_000_000 // cap
        wait_us = max(0, self._bytes_free_us - now_us)
        self._bytes_free_us = max(now_us, self._bytes_free_us) + cost_us
        if wait_us and flight.lane == "backfill":
            await asyncio.sleep(wait_us / 1_000_000)

    def _start(self, flight: Flight) -> None:
        if self._tasks is None or flight.payload is None:
            return
        self._lanes.sent(flight, self._clock.monotonic_us())
        topic = topics.build(f"uplink/{{gateway}}/{flight.lane}", self._site, GATEWAY)
        message = Message(topic=topic, payload=flight.payload, content_type=envelope.CONTENT_TYPE)
        self._tasks.create_task(self._publish(message), name="gateway.uplink-publish")

    async def _publish(self, message: Message) -> None:
        """Publish; a refusal is no answer to a batch: it is sent again when it is due."""
        code = await self._link.publish(message)
        if code >= _FAILURE:
            self._progress.refused += 1
            _log.warning("the cloud's broker refuses %s: reason code 0x%02x", message.topic, code)

    async def _resend(self) -> None:
        """Send again, unchanged, what stays without an answer."""
        while True:
            now_us = self._clock.monotonic_us()
            for flight in self._lanes.due(now_us):
                if self._lanes.looks_unreadable(flight):
                    await self._unreadable(flight)
                    self.wake()
                elif flight.payload is not None:
                    self._start(flight)
            await asyncio.sleep(_TICK_S)

    # progress

    async def _watch(self) -> None:
        """End a connection on which an answer is owed for too long (half-open, or no ingest)."""
        limit_us = int(self._pace.answer_timeout_s * 1_000_000)
        while True:
            await asyncio.sleep(_TICK_S)
            now_us = self._clock.monotonic_us()
            if not len(self._lanes) and self._hello_open_us is None:
                self._quiet_us = now_us
            since_us = max(self._quiet_us, self._progress.heard_us or 0)
            if now_us - since_us > limit_us:
                text = "no progress: the cloud owes an answer"
                self._sensors.alarm(LATE, GATEWAY, f"{text} for {self._pace.answer_timeout_s:g} s")
                raise UnreachableError(text)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
