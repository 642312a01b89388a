"""Ingest's place on the front broker: groups for it to commit, its answers back."""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from plantroom.cloud.ingest import Ingest
from plantroom.cloud.service_link import ServiceLink
from plantroom.wire import topics
from plantroom.wire.errors import StorageCorruptError, StorageError
from plantroom.wire.identity import IdentitySource
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.cloud.ingest_link")
CLIENT_ID = "ingestion"
FILTER = topics.subscription("uplink/{gateway}/live", "+").replace("/live", "/+")
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
        await self._link.run(self._work)

    async def _work(self) -> NoReturn:
        while True:
            group = await self._link.take(self._group_max)
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
            await self._link.publish(answers)
