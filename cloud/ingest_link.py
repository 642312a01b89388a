"""Ingest's place on the front broker: an ordinary subscriber with an SVID of its own."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from plantroom.cloud.ingest import Ingest
from plantroom.wire import tls, topics
from plantroom.wire.errors import PlantroomError, StorageError, UnreachableError
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

    Messages wait in a bounded queue; when it is full they wait in the broker, which keeps this
    session through reconnects.
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
        self.connected = False
        self.trouble = ""

    async def run(self) -> NoReturn:
        """Connect, work, and connect again, for ever."""
        wait_s = RETRY_S[0]
        while True:
            try:
                await self._session()
            except* PlantroomError as group:
                error = _first(group)
            if self.connected or isinstance(error, _RenewedError):
                wait_s = RETRY_S[0]
            self.connected = False
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
        waiting: asyncio.Queue[Message] = asyncio.Queue(self._waiting_max)
        async with link, asyncio.TaskGroup() as tasks:
            await link.subscribe(FILTER)
            self.connected, self.trouble = True, ""
            LOG.info("connected to %s", link.where)
            tasks.create_task(self._fill(link, waiting), name="cloud.ingest-fill")
            tasks.create_task(self._work(link, waiting), name="cloud.ingest-work")
            await self._source.changed(identity.revision)
            raise _RenewedError("identity renewed")

    async def _fill(self, link: Link, waiting: asyncio.Queue[Message]) -> None:
        async for message in link.messages():
            await waiting.put(message)

    async def _work(self, link: Link, waiting: asyncio.Queue[Message]) -> NoReturn:
        while True:
            group = [await waiting.get()]
            while len(group) < self._group_max and not waiting.empty():
                group.append(waiting.get_nowait())
            try:
                answers = await self._ingest.take(group)
            except StorageError as error:
                LOG.error("nothing stored, nothing answered: %s", error)  # noqa: TRY400 -- one line
                self.trouble = str(error)
                await asyncio.sleep(TROUBLE_S)
                continue
            self.trouble = ""
            await _publish_all(link, answers)


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
