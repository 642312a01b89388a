"""An enrolled identity as the asyncio processes want it: renewals run in a thread."""

import asyncio
import logging

from plantroom.certs.enrolled import EnrolledSource
from plantroom.certs.holder import IdentityHolder
from plantroom.certs.renewal import Schedule
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import IdentityError, PlantroomError

LOG = logging.getLogger("plantroom.certs.enrolled")
CHECK_S = 10.0  # a wall clock that is stepped, or a new join token, is noticed within this


class AsyncEnrolled(IdentityHolder):
    """`IdentitySource` over an `EnrolledSource`, renewing while `run` runs."""

    def __init__(self, source: EnrolledSource, *, clock: Clock | None = None) -> None:
        super().__init__()
        self.source = source
        self._clock = clock or SystemClock()
        try:
            identity = source.current()
        except IdentityError:
            return  # `changed` waits until `run` has enrolled
        self.publish(identity.svid, identity.bundles)

    def renewals(self) -> Schedule:
        """Say when it renews next, and how that goes."""
        return self.source.schedule

    async def run(self) -> None:
        """Enrol and renew for ever; a failure is retried, and said in the log."""
        while True:
            if self.source.due(self._clock.wall_us() / 1e6):
                await self._renew()
            wait_s = self.source.wait_s(self._clock.wall_us() / 1e6)
            await asyncio.sleep(min(CHECK_S, max(0.05, wait_s)))

    async def _renew(self) -> None:
        try:
            identity = await asyncio.to_thread(self.source.renew)
        except PlantroomError as error:
            LOG.warning("renewal failed: %s", error)
        else:
            LOG.info("renewed id=%s serial=%s", identity.svid.spiffe_id, identity.svid.serial)
            self.publish(identity.svid, identity.bundles)
