"""Ingest's place on the front broker: groups for it to commit, its answers back."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from plantroom.cloud.ingest import Ingest
from plantroom.cloud.service_link import ServiceLink
from plantroom.wire import topics
from plantroom.wire.errors import StorageCorruptError, StorageError
from plantroom.wire.identity import IdentitySource
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.cloud.ingest_link")
CLIENT_ID = "ingestion"
FILTER = topics.subscription("uplink/{gateway}/live", "+").replace("/live", "/+")
LIVE = "/live"
BEHIND_AT_ONCE = 2  # batches of a backlog, and hellos, in one commit
ANSWERS_MAX = 4  # groups of answers that wait to be published before the next group has to
TROUBLE_S = 2.0  # how long to leave a store alone that could not commit


class IngestLink:
    """Fills groups for ingest from its connection, and publishes its answers.

    Nothing is answered before it is stored; what could not be stored comes again.
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
        self._group_max = group_max
        self._link = ServiceLink(
            CLIENT_ID,
            source,
            filters=(FILTER,),
            address=address,
            server_id=server_id,
            waiting_max=waiting_max,
        )
        self._behind: deque[Message] = deque()
        self._behind_max = waiting_max
        self._live_alone = False  # the last group
        self._answers: asyncio.Queue[Sequence[Message]] = asyncio.Queue(ANSWERS_MAX)
        self._trouble = ""

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link.connected

    @property
    def trouble(self) -> str:
        """What is wrong with store or connection, or nothing."""
        return self._trouble or self._link.trouble

    async def run(self) -> None:
        """Take, commit and answer, over one connection after the other, for ever."""
        await self._link.run(self._work, self._answer)

    async def _work(self) -> NoReturn:
        while True:
            group = await self._group()
            try:
                answers = await self._ingest.take(group)
            except StorageCorruptError:
                raise  # whoever opened the store sets it aside
            except StorageError as error:
                LOG.error("nothing stored, nothing answered: %s", error)  # noqa: TRY400 -- one line
                self._trouble = str(error)
                await asyncio.sleep(TROUBLE_S)
                continue
            self._trouble = ""
            await self._answers.put(answers)

    async def _group(self) -> list[Message]:
        """Choose what shares the next commit: all that is live, or a little of what is not.

        So a live reading waits for one short commit, however much of a backlog is on its way. Where
        there is always something live, every other group takes both: a backlog goes on as well.
        """
        taken: list[Message] = []
        if not self._behind:
            taken = await self._link.take(self._group_max)
        elif len(self._behind) < self._behind_max:
            taken = self._link.take_now(self._group_max)
        live = [message for message in taken if message.topic.endswith(LIVE)]
        self._behind += [message for message in taken if not message.topic.endswith(LIVE)]
        self._live_alone = bool(live) and not self._live_alone
        count = 0 if self._live_alone else min(len(self._behind), BEHIND_AT_ONCE)
        return live + [self._behind.popleft() for _ in range(count)]

    async def _answer(self) -> NoReturn:
        """Publish answers while the next group is being committed."""
        while True:
            await self._link.publish(await self._answers.get())
