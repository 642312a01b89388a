"""A cloud service's place on the front broker: an ordinary client with an SVID of its own.

It comes back by itself: after a loss, after a renewal of its SVID, when the broker starts late.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from plantroom.wire import tls
from plantroom.wire.errors import PlantroomError, UnreachableError
from plantroom.wire.identity import IdentitySource
from plantroom.wire.link import Link, Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.spiffe import SpiffeId

SESSION_EXPIRY_S = 86_400
RETRY_S = (0.2, 5.0)  # first, longest
PUBLISHES_MAX = 32  # on their way at a time
_FAILURE = 0x80


class _RenewedError(UnreachableError):
    """The SVID was renewed: connect again with the new one."""


class ServiceLink:
    """Keeps the connection and a bounded queue of what came; publishes, over and over if need be.

    What waits outlives connections; when the queue is full it waits in the broker, which keeps
    this session.
    """

    def __init__(  # noqa: PLR0913 -- as whom, where to, what for, how much
        self,
        name: str,
        source: IdentitySource,
        *,
        filters: Sequence[str],
        address: Callable[[], tuple[str, int]],
        server_id: SpiffeId,
        waiting_max: int,
    ) -> None:
        self._name = name
        self._log = logging.getLogger(f"plantroom.cloud.{name}")
        self._source = source
        self._filters = filters
        self._address = address
        self._server_id = server_id
        self._waiting_max = waiting_max
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(waiting_max)
        self._link: Link | None = None
        self._linked = asyncio.Event()
        self._stopping = False
        self.trouble = ""

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._linked.is_set()

    async def run(self, *work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Stay connected, and do the service's work beside it, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one(), name=f"cloud.{self._name}-work")
            tasks.create_task(self._stay_connected(), name=f"cloud.{self._name}-connect")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._stopping = True  # before the tasks are cancelled

    async def take(self, at_most: int = 1) -> list[Message]:
        """Wait for messages, and take as many as there are."""
        return [await self._waiting.get(), *self.take_now(at_most - 1)]

    def take_now(self, at_most: int) -> list[Message]:
        """Take as many messages as there are."""
        return [self._waiting.get_nowait() for _ in range(min(at_most, self._waiting.qsize()))]

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish; after a loss all of them again, which their receivers have to bear."""
        done = False
        while not done:
            await self._linked.wait()
            link = self._link
            if link is None:  # pragma: no cover -- set together with the event
                continue
            done = True
            try:
                await self._publish_all(link, messages)
            except* UnreachableError:
                self._unlink(link)
                done = False
            self._heed_stop()

    async def _publish_all(self, link: Link, messages: Sequence[Message]) -> None:
        """Publish in order; a refusal is logged: whoever waits for it will ask again."""
        for at in range(0, len(messages), PUBLISHES_MAX):
            part = messages[at : at + PUBLISHES_MAX]
            async with asyncio.TaskGroup() as tasks:
                sent = [
                    tasks.create_task(link.publish(one), name=f"cloud.{self._name}-publish")
                    for one in part
                ]
            for one, task in zip(part, sent, strict=True):
                if task.result() >= _FAILURE:
                    self._log.error("%s is refused: 0x%02x", one.topic, task.result())

    def _heed_stop(self) -> None:
        """Let a stop be a stop: a TaskGroup that fails while it is cancelled forgets that it was.

        A front broker that stops with us breaks the connection in that very moment.
        """
        if self._stopping:
            raise asyncio.CancelledError

    async def _stay_connected(self) -> NoReturn:
        wait_s = RETRY_S[0]
        while True:
            try:
                await self._session()
            except* PlantroomError as group:
                error = _first(group)
            self._heed_stop()
            if self.connected:
                wait_s = RETRY_S[0]
            self._unlink(self._link)
            if not isinstance(error, _RenewedError):
                if str(error) != self.trouble:
                    self._log.warning("not connected: %s", error)
                self.trouble = str(error)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_S[1])

    async def _session(self) -> None:
        identity = self._source.current()
        context = tls.client_context(identity, server_ids=[self._server_id])
        host, port = self._address()
        link = MqttLink(
            host,
            port,
            self._name,
            context,
            clean_start=False,
            session_expiry_s=SESSION_EXPIRY_S,
            incoming_max=self._waiting_max,
        )
        async with link, asyncio.TaskGroup() as tasks:
            for topic_filter in self._filters:
                await link.subscribe(topic_filter)
            self._link, self.trouble = link, ""
            self._linked.set()
            self._log.info("connected to %s", link.where)
            tasks.create_task(self._fill(link), name=f"cloud.{self._name}-fill")
            await self._source.changed(identity.revision)
            raise _RenewedError("identity renewed")

    def _unlink(self, link: Link | None) -> None:
        """Forget a connection that was lost, unless there is another one already."""
        if self._link is link:
            self._link = None
            self._linked.clear()

    async def _fill(self, link: Link) -> None:
        async for message in link.messages():
            await self._waiting.put(message)


def _first(group: BaseExceptionGroup[PlantroomError]) -> PlantroomError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, PlantroomError) else UnreachableError(str(error))
