"""Ingest's place on the front broker: an ordinary subscriber with an SVID of its own."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from plantroom.cloud.ingest import Ingest
from plantroom.wire import tls, topics
from plantroom.wire.errors import (
    PlantroomError,
    StorageCorruptError,
    StorageError,
    UnreachableError,
)
from plantroom.wire.identity import IdentitySource
from plantroom.wire.link import Link, Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.cloud.ingest_link")
CLIENT_ID = "ingestion"
FILTER = topics.subscription("uplink/{gateway}/live", "+").replace("/live", "/+")
SESSION_EXPIRY_S = 86_400
RETRY_S = (0.2, 5.0)  # first, longest
TROUBLE_S = 2.0  # how long to leave a store alone that could not commit
PUBLISHES_MAX = 32  # answers on their way at a time


class _RenewedError(UnreachableError):
    """The SVID was renewed: connect again with the new one."""


class IngestLink:
    """Keeps the connection, fills groups for ingest, publishes its answers.

    Messages wait in a bounded queue that outlives connections; when it is full they wait in the
    broker, which keeps this session. Answers wait for the next connection when one is lost.
    """

    def __init__(  # noqa: PLR0913 -- where to, as whom, how much
        self,
        ingest: Ingest,
        source: IdentitySource,
        *,
        address: Callable[[], tuple[str, int]],
        server_id: SpiffeId,
        group_max: int,
        waiting_max: int,
    ) -> None:
        self._ingest = ingest
        self._source = source
        self._address = address
        self._server_id = server_id
        self._group_max = group_max
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

    async def run(self) -> None:
        """Take, commit and answer, over one connection after the other, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work(), name="cloud.ingest-work")
            tasks.create_task(self._stay_connected(), name="cloud.ingest-connect")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._stopping = True  # before the tasks are cancelled

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
                    LOG.warning("not connected: %s", error)
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
            CLIENT_ID,
            context,
            clean_start=False,
            session_expiry_s=SESSION_EXPIRY_S,
            incoming_max=self._waiting_max,
        )
        async with link, asyncio.TaskGroup() as tasks:
            await link.subscribe(FILTER)
            self._link, self.trouble = link, ""
            self._linked.set()
            LOG.info("connected to %s", link.where)
            tasks.create_task(self._fill(link), name="cloud.ingest-fill")
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

    async def _work(self) -> NoReturn:
        while True:
            group = [await self._waiting.get()]
            while len(group) < self._group_max and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            try:
                answers = await self._ingest.take(group)
            except StorageCorruptError:
                raise  # whoever opened the store sets it aside
            except StorageError as error:
                LOG.error("nothing stored, nothing answered: %s", error)  # noqa: TRY400 -- one line
                self.trouble = str(error)
                await asyncio.sleep(TROUBLE_S)
                continue
            self.trouble = ""
            await self._answer(answers)

    async def _answer(self, answers: Sequence[Message]) -> None:
        """Publish answers; after a loss all of them again, which a gateway does not mind."""
        done = False
        while not done:
            await self._linked.wait()
            link = self._link
            if link is None:  # pragma: no cover -- set together with the event
                continue
            done = True
            try:
                await _publish_all(link, answers)
            except* UnreachableError:
                self._unlink(link)
                done = False
            self._heed_stop()


async def _publish_all(link: Link, answers: Sequence[Message]) -> None:
    """Publish answers, in order; a refusal is logged, since the gateway will ask again."""
    for at in range(0, len(answers), PUBLISHES_MAX):
        part = answers[at : at + PUBLISHES_MAX]
        async with asyncio.TaskGroup() as tasks:
            sent = [
                tasks.create_task(link.publish(answer), name="cloud.ingest-answer")
                for answer in part
            ]
        for answer, task in zip(part, sent, strict=True):
            if task.result() >= 0x80:
                LOG.error("answer on %s refused: 0x%02x", answer.topic, task.result())


def _first(group: BaseExceptionGroup[PlantroomError]) -> PlantroomError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, PlantroomError) else UnreachableError(str(error))
