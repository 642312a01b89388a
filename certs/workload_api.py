"""An identity from a SPIFFE Workload API: SPIRE's agent, or any other, over its Unix socket.

The stream is held open. While there is no entry for this process (PermissionDenied), no socket, or
no agent, it is tried again; an identity that was received stays until there is a newer one.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from plantroom.certs import svid
from plantroom.certs.holder import IdentityHolder
from plantroom.certs.renewal import Schedule
from plantroom.certs.workload_stream import ANSWER_S_MAX, IdentityStream, patience_s, wait_s
from plantroom.wire import unix_socket
from plantroom.wire.errors import PlantroomError, UnreachableError
from plantroom.wire.identity import Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

LOG = logging.getLogger("plantroom.certs.workload_api")
_READ_BYTES_MAX = 64 * 1024


class WorkloadApiSource(IdentityHolder):
    """The SVID with `spiffe_id`, of those that the agent at the socket `path` gives us.

    `owners`: users beside root and our own who may listen there. `told_of`: trust domains whose
    bundle also comes from their own agent: that one stands in front of our agent's federated copy,
    which may be an old one. What an operator has given stands behind both.
    """

    def __init__(
        self,
        path: Path,
        spiffe_id: SpiffeId,
        *,
        owners: Collection[int] = (),
        told_of: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._told_of = frozenset(told_of)
        self._path = path
        self._spiffe_id = spiffe_id
        self._owners = owners
        self._received: tuple[Svid, dict[str, TrustBundle]] | None = None
        self._first_hand: dict[str, TrustBundle] = {}
        self._kept: dict[str, TrustBundle] = {}
        self.schedule = Schedule()

    def renewals(self) -> Schedule:
        """Say when the agent should renew next, and how asking it goes."""
        return self.schedule

    def set_bundle(self, bundle: TrustBundle) -> bool:
        """Trust another domain by this bundle; False where only the agent may say that."""
        if bundle.trust_domain not in self._told_of:
            return False
        self._first_hand[bundle.trust_domain] = bundle
        self._publish_news()
        return True

    def trust(self, bundle: TrustBundle) -> None:
        """Trust another domain by this bundle, as long as no agent says what its roots are."""
        if bundle.trust_domain != self._spiffe_id.trust_domain:
            self._kept[bundle.trust_domain] = bundle
            self._publish_news()

    async def run(self) -> NoReturn:
        """Hold the stream open for ever; a broken one is opened again, and said in the log."""
        while True:
            try:
                await self._stream()
            except (PlantroomError, OSError) as error:
                if str(error) != str(self.schedule.last_error):
                    LOG.warning("workload API: %s", error)
                pause_s = wait_s(self.schedule.failures + 1, chance=random.random())  # noqa: S311 -- jitter
                self.schedule.failed(time.time(), error, retry_s=pause_s)
                await asyncio.sleep(pause_s)

    async def _stream(self) -> NoReturn:
        # at once or not at all: an agent that hangs with a full queue must not hold the loop up
        link = unix_socket.dial(self._path, owners=self._owners, timeout_s=0)
        reader, writer = await asyncio.open_unix_connection(sock=link)
        stream = IdentityStream(self._path, self._spiffe_id, read=svid.parse_svid)
        try:
            writer.write(stream.begin())
            silent_s_max = ANSWER_S_MAX
            while True:
                try:
                    async with asyncio.timeout(silent_s_max):
                        data = await reader.read(_READ_BYTES_MAX)
                except TimeoutError:
                    raise UnreachableError("agent is silent", where=str(self._path)) from None
                found, replies = stream.receive(data)
                if found is not None:
                    self._take(*found)
                    silent_s_max = patience_s(found[0], time.time())
                if not writer.is_closing():  # it may have spoken and gone; the next read says so
                    writer.write(replies)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, found: Svid, bundles: dict[str, TrustBundle]) -> None:
        self.schedule.renewed(found.not_before_s, found.not_after_s)  # when the agent should
        self._received = found, bundles
        if self._publish_news():
            LOG.info("got id=%s serial=%s", found.spiffe_id, found.serial)

    def _publish_news(self) -> bool:
        """Publish what is known now, if that is news."""
        if self._received is None:
            return False
        found, bundles = self._received
        merged = self._kept | bundles | self._first_hand
        known = self._identity
        if known is not None and known.svid == found and dict(known.bundles) == merged:
            return False
        self.publish(found, merged)
        return True
