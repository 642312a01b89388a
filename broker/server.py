"""The broker as other packages use it: listeners, in-process publishing and watching, figures."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from plantroom.broker import segments
from plantroom.broker.codes import Code
from plantroom.broker.connection import Connection
from plantroom.broker.engine import Engine
from plantroom.broker.filters import check_name
from plantroom.broker.guard import Ask, Peer
from plantroom.broker.listener import Admit, Listener, Wrap, bind
from plantroom.broker.packet_handler import PacketHandler
from plantroom.broker.recheck import Recheck
from plantroom.broker.recovery import recover
from plantroom.broker.refill import Refill
from plantroom.broker.runs import US_PER_S, Origin
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sink import Sink
from plantroom.broker.sweep import sweep
from plantroom.broker.sysinfo import metrics, publish_sys
from plantroom.broker.watchers import Watch, from_message
from plantroom.broker.wills import Settle, Wills
from plantroom.wire.clock import Clock
from plantroom.wire.errors import StorageError
from plantroom.wire.link import Message
from plantroom.wire.metrics import Metric
from plantroom.wire.policy import DecisionPoint

LOGGER = logging.getLogger("plantroom.broker.server")
_TICK_S = 0.25
_CLOSE_S = 5.0
_FLUSH_S = 0.5
_PRUNE_TICKS = 4
_FORGET_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What is shown of one session."""

    spiffe_id: str
    client_id: str
    connected: bool
    address: str
    expiry_s: int
    subscriptions: tuple[str, ...]
    queued_bytes: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedInfo:
    """What is shown of one retained message."""

    topic: str
    publisher: str
    at_us: int
    qos: int
    payload_bytes: int


class Broker:
    """An MQTT server in this process.

    `decisions` None allows everything. Publishes on topics that match `taps` are kept in segments
    for the readers in table `tap`; topics that match `volatile` never touch the disk; a will on one
    of `farewells` that policy allowed at CONNECT is published whatever it says later.
    """

    def __init__(  # noqa: PLR0913 -- the parts of a broker
        self,
        *,
        limits: BrokerLimits,
        store: Sink,
        admit: Admit,
        decisions: DecisionPoint | None,
        clock: Clock,
        taps: tuple[str, ...] = (),
        volatile: tuple[str, ...] = (),
        farewells: tuple[str, ...] = (),
    ) -> None:
        self._engine = Engine(
            limits=limits,
            sink=store,
            decisions=decisions,
            clock=clock,
            taps=taps,
            volatile=volatile,
        )
        self._admit = admit
        self._wills = Wills(self._engine, farewells=farewells)
        self._wills.on_undecided = self._undecided
        self._handler = PacketHandler(self._engine, self._wills)
        self._handler.on_suspend = self._suspend
        self._recheck = Recheck(self._engine)
        self._refill = Refill(self._engine)
        if decisions is not None:
            decisions.on_change(self._recheck.want)
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._listeners: list[Listener] = []
        self._journal_task: asyncio.Task[None] | None = None
        self._started_us = clock.monotonic_us()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        recover(self._engine, self._wills, await self._engine.sink.load())
        self._journal_task = self._tasks.create_task(
            self._engine.journal.serve(), name="broker.journal"
        )
        self._running += [
            self._tasks.create_task(self._tick(), name="broker.tick"),
            self._tasks.create_task(self._recheck.run(), name="broker.recheck"),
            self._tasks.create_task(self._refill.run(), name="broker.refill"),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSE_S)
        for listener in self._listeners:
            listener.close()
        for connection in list(self._engine.connections):
            connection.fail(Code.SERVER_SHUTTING_DOWN, "server shutting down")
        self._engine.journal.close()
        if self._journal_task is not None:
            await asyncio.wait([self._journal_task], timeout=_CLOSE_S)
            self._journal_task.cancel()
        await self._end_connections()
        if kind is not None and not issubclass(kind, asyncio.CancelledError):
            kind = error = trace = None  # the owner's own error goes on as it is, in no group
        await self._tasks.__aexit__(kind, error, trace)

    async def _end_connections(self) -> None:
        """Let clients read their last packet, but not for long: then nothing is left open."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + _FLUSH_S
        while self._engine.connections and loop.time() < give_up_s:  # noqa: ASYNC110 -- bounded
            await asyncio.sleep(_FLUSH_S / 50)
        for connection in list(self._engine.connections):
            connection.abort("server shutting down")
        await asyncio.sleep(0)  # transports close with the next turn of the loop

    async def listen(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        *,
        websocket: bool = False,
        origins: Sequence[str] = (),
    ) -> int:
        """Listen, with TLS if there is a context; return the bound port.

        With `websocket` for MQTT over WebSocket: for programs, and for pages of these origins.

        Raises:
            ConfigError: when the port is taken.
        """
        listener = Listener(
            self._engine,
            self._handler,
            bind(host, port, receive_bytes_max=self._engine.limits.receive_bytes_max),
            context,
            self._admit,
            wrap=self._over_websocket(origins) if websocket else None,
        )
        self._listeners.append(listener)
        self._running.append(
            self._tasks.create_task(listener.run(self._tasks), name="broker.listener")
        )
        return listener.port

    def _over_websocket(self, origins: Sequence[str]) -> Wrap:
        from plantroom.broker.websocket import WebSocket  # noqa: PLC0415 -- 4 MB, seldom wanted

        frame_bytes_max = 2 * self._engine.limits.packet_bytes_max
        return lambda connection: WebSocket(connection, origins, frame_bytes_max)

    async def publish(self, message: Message, *, publisher: str) -> int:
        """Publish in process, without asking policy; return the reason code.

        At QoS 1 and 2 it is committed when this returns 0.

        Raises:
            PacketError: when the topic is not one.
        """
        engine = self._engine
        check_name(message.topic, engine.limits)
        if engine.hold is not None and engine.kind(message.topic)[0]:
            return engine.hold
        if engine.refuses(message.topic, message.qos):
            return Code.QUOTA_EXCEEDED
        engine.publish(Origin(0, publisher, ""), from_message(message))
        if message.qos == 0:
            return Code.SUCCESS
        return Code.SUCCESS if await self._committed() else Code.QUOTA_EXCEEDED

    def watch(self, topic_filter: str, callback: Watch) -> Callable[[], None]:
        """Call back for every message on these topics, retained ones first; returns the stop."""
        return self._engine.watch(topic_filter, callback)

    def tap_hold(self, reason_code: int | None) -> None:
        """Refuse publishes on tapped topics with this code until called with None."""
        self._engine.set_hold(reason_code)

    def on_tapped(self, callback: Callable[[], None]) -> None:
        """Call back after every commit that had tapped messages."""
        self._engine.journal.on_tapped.append(callback)

    def disconnect(self, spiffe_id: str) -> int:
        """Close every connection of a principal at once; return how many there were."""
        wanted = str(spiffe_id)
        found = [c for c in self._engine.connections if c.open and c.peer.spiffe_id == wanted]
        for connection in found:
            connection.fail(Code.ADMINISTRATIVE_ACTION, "disconnected by the operator")
        return len(found)

    def sessions(self) -> list[SessionInfo]:
        """Return every session."""
        return [
            SessionInfo(
                spiffe_id=client.key[0],
                client_id=client.key[1],
                connected=client.connection is not None,
                address=client.connection.peer.address if client.connection else "",
                expiry_s=client.expiry_s,
                subscriptions=tuple(client.subscriptions),
                queued_bytes=client.session.pending_bytes,
                in_flight=client.session.unacknowledged,
            )
            for client in self._engine.clients
        ]

    def kick(self, who: str) -> int:
        """Close every connection of a SPIFFE ID or a client id; return how many there were."""
        open_ones = [c for c in self._engine.connections if c.open]
        found = [c for c in open_ones if who in {c.peer.spiffe_id, c.peer.client_id}]
        for connection in found:
            connection.fail(Code.ADMINISTRATIVE_ACTION, "disconnected by the operator")
        return len(found)

    def retained(self, topic_filter: str) -> Iterator[RetainedInfo]:
        """Give the retained messages on these topics, as they are when their turn comes."""
        for value in self._engine.retained.matching(topic_filter):
            yield RetainedInfo(
                topic=value.message.topic,
                publisher=value.origin.publisher,
                at_us=value.at_us,
                qos=value.message.qos,
                payload_bytes=len(value.message.payload),
            )

    async def forget_retained(self, topic_filter: str) -> int:
        """Forget the retained messages on these topics; nobody is told. Return how many.

        Raises:
            StorageError: when they could not be deleted; then the last of them are still there.
        """
        count, found = 0, self._engine.retained.walk(topic_filter)
        while looked_at := list(islice(found, _FORGET_AT_ONCE)):  # others have their turn between
            messages = [message for message in looked_at if message is not None]
            self._engine.forget_retained(messages)
            if not await self._committed():
                raise StorageError("the broker cannot store anything now")
            count += len(messages)
        return count

    async def _committed(self) -> bool:
        """Wait for the group that is being filled; say whether it was stored."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(ok: bool) -> None:  # noqa: FBT001 -- the journal's callback
            if not done.done():
                done.set_result(ok)

        self._engine.journal.after(settle)
        return await done

    @property
    def failing(self) -> StorageError | None:
        """Why nothing can be stored now, if that is so."""
        return self._engine.journal.failing

    def metrics(self) -> list[Metric]:
        """Return every figure now."""
        return metrics(self._engine)

    # -- housekeeping

    def _suspend(self, connection: Connection) -> None:
        self._tasks.create_task(self._decide(connection), name="broker.decide")

    async def _decide(self, connection: Connection) -> None:
        await self._engine.guard.settle(connection.peer, connection.waiting_for)
        connection.go_on()

    def _undecided(self, peer: Peer, ask: Ask, settle: Settle) -> None:
        self._tasks.create_task(self._settle(peer, ask, settle), name="broker.will")

    async def _settle(self, peer: Peer, ask: Ask, settle: Settle) -> None:
        settle(await self._engine.guard.settle_one(peer, ask))

    async def _tick(self) -> None:
        """Look after time: keep-alive, expiry, delayed wills, `$SYS`, segments to prune."""
        engine = self._engine
        sys_us, next_sys_us = int(engine.limits.sys_interval_s * US_PER_S), 0
        ticks = 0
        while True:
            now_us = engine.now_us = engine.clock.monotonic_us()
            sweep(engine, now_us)
            if engine.guard.expire():
                engine.epoch += 1
            self._wills.tick()
            engine.audit.tick()
            engine.counters.sessions_expired += engine.clients.expire()
            if sys_us and now_us >= next_sys_us:
                next_sys_us = now_us + sys_us
                publish_sys(engine, self._started_us)
            ticks += 1
            if ticks % _PRUNE_TICKS == 0:
                await self._prune()
            await asyncio.sleep(_TICK_S)

    async def _prune(self) -> None:
        journal = self._engine.journal
        if not (journal.passed or self._engine.taps):
            return
        sids, journal.passed = journal.passed, set()
        try:
            pruned = await self._engine.sink.prune(sids)
        except StorageError as error:
            if journal.failing is None:  # it is said already
                LOGGER.warning("the log cannot be pruned: %s", error)
            journal.passed |= sids
            return
        journal.passed.update(pruned.more)
        journal.grow(-pruned.freed_bytes)


__all__ = ["Broker", "RetainedInfo", "SessionInfo", "segments"]
