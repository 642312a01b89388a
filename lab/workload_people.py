"""The files of inspector and operator, where a SPIRE agent gives them their SVIDs.

Other people's tools read files, so these are written anew with every rotation. The cloud's agent
gives the SVIDs; the building's roots come from the building's own agent.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

from plantroom.certs import workload_ask
from plantroom.certs.workload_feed import WorkloadFeed
from plantroom.lab import people
from plantroom.lab.building import INSPECTOR_ID, OPERATOR_ID, TRUST_DOMAIN
from plantroom.lab.layout import Credentials, Layout
from plantroom.lab.workload import Sockets
from plantroom.wire.errors import PlantroomError
from plantroom.wire.identity import Identity, TrustBundle

LOOK_S = 1.0
ROOTS_S = 30.0


class PeopleKeeper:
    """Keeps the files fresh while `run` runs."""

    def __init__(self, layout: Layout, sockets: Sockets, *, tell: Callable[[str], None]) -> None:
        self._sockets = sockets
        self._tell = tell
        self._feeds = [
            (layout.inspector, WorkloadFeed(sockets.cloud, INSPECTOR_ID, owners=sockets.owners)),
            (layout.operator, WorkloadFeed(sockets.cloud, OPERATOR_ID, owners=sockets.owners)),
        ]
        self._written: dict[Credentials, tuple[int, dict[str, TrustBundle]]] = {}
        self._roots: TrustBundle | None = None  # the building's
        self._ask_roots_at_s = 0.0
        self._trouble: dict[object, str] = {}

    async def run(self) -> NoReturn:
        """Write what is new, for ever."""
        while True:
            await asyncio.to_thread(self.step)
            await asyncio.sleep(LOOK_S)

    def step(self) -> None:
        """Look once at what the agents say; what goes wrong is told once."""
        if time.monotonic() >= self._ask_roots_at_s:
            self._ask_roots_at_s = time.monotonic() + ROOTS_S
            self._attempt("roots", self._learn_roots)
        for credentials, feed in self._feeds:
            self._attempt(credentials, lambda: self._keep(credentials, feed))  # noqa: B023 -- called at once

    def close(self) -> None:
        """Let go of the agents; idempotent."""
        for _, feed in self._feeds:
            feed.close()

    def _attempt(self, what: object, do: Callable[[], None]) -> None:
        try:
            do()
        except PlantroomError as error:
            if str(error) != self._trouble.get(what):
                self._tell(str(error))
            self._trouble[what] = str(error)
        else:
            self._trouble.pop(what, None)

    def _learn_roots(self) -> None:
        sockets = self._sockets
        told = workload_ask.bundles(sockets.building, owners=sockets.owners)
        self._roots = told.get(TRUST_DOMAIN, self._roots)

    def _keep(self, credentials: Credentials, feed: WorkloadFeed) -> None:
        if feed.due(time.time()):
            feed.renew()
        try:
            identity = feed.current()
        except PlantroomError:
            return  # what is wrong was told when it was asked for
        bundles = self._bundles(identity)
        if self._written.get(credentials) != (identity.revision, bundles):
            people.write(credentials, identity.svid, bundles)
            self._written[credentials] = identity.revision, bundles

    def _bundles(self, identity: Identity) -> dict[str, TrustBundle]:
        bundles = dict(identity.bundles)
        if self._roots is not None:  # at first hand; the cloud's agent may have an old copy
            bundles[TRUST_DOMAIN] = self._roots
        return bundles
