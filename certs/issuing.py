"""What an issuer of one's own offers to others: the enrolment port, and the SPIFFE Workload API.

Where somebody else is the issuer (SPIRE) there is nothing to offer. Whether SVIDs are renewed in
time is watched in either case.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from plantroom.certs import attestation as attesting
from plantroom.certs import svid_watch
from plantroom.certs.authority import Authority
from plantroom.certs.enrolment_server import EnrolmentServer
from plantroom.certs.holder import RunningSource
from plantroom.certs.registry import Registry
from plantroom.certs.svid_watch import Say, SvidWatch
from plantroom.certs.time_floor import TimeFloor
from plantroom.certs.workload_offers import Offers
from plantroom.certs.workload_server import WorkloadServer
from plantroom.wire.clock import Clock
from plantroom.wire.identity import IdentitySource
from plantroom.wire.metrics import Metric


class IssuerSection(Protocol):
    """The settings that it needs, of a gateway or of the cloud."""

    @property
    def enrol_host(self) -> str:
        """Address of the enrolment port."""
        ...

    @property
    def enrol_port(self) -> int:
        """Number of the enrolment port; 0: a free one."""
        ...

    @property
    def late_s_max(self) -> int:
        """How long after its end, or before its begin, an SVID still renews."""
        ...

    @property
    def tpm_ca_file(self) -> str:
        """Who may sign the chips of askers."""
        ...

    @property
    def tpm_pcrs(self) -> tuple[int, ...]:
        """Registers of a chip that are compared."""
        ...

    @property
    def workload_socket(self) -> str:
        """Path of the Workload API's socket; empty: none."""
        ...


class Issuing:
    """Nothing, one or both of the two; `start` listens for enrolment, `run` does the rest."""

    def __init__(
        self,
        settings: IssuerSection,
        svids: SvidWatch,
        enrolment: EnrolmentServer | None = None,
        workload: WorkloadServer | None = None,
    ) -> None:
        self._settings = settings
        self._svids = svids
        self._enrolment = enrolment
        self._workload = workload

    async def start(self) -> int | None:
        """Open the enrolment port, and return its number; None where there is none.

        Raises:
            ConfigError: when the address cannot be had.
        """
        if self._enrolment is None:
            return None
        return await self._enrolment.start(self._settings.enrol_host, self._settings.enrol_port)

    async def run(self, say: Say) -> None:
        """Watch SVIDs, and serve the Workload API, for ever; `say` publishes alarms.

        Raises:
            ConfigError: when the Workload API's socket cannot be made there.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._svids.run(say), name="certs.svids")
            if self._workload is not None:
                tasks.create_task(self._workload.run(), name="certs.workload")

    def metrics(self) -> list[Metric]:
        """Return the figures of what is offered."""
        found = (self._svids, self._enrolment, self._workload)
        parts = [part for part in found if part is not None]
        return [metric for part in parts for metric in part.metrics()]


@contextlib.asynccontextmanager
async def opened(
    authority: Authority | None,
    registry: Registry,
    sources: Sequence[RunningSource],
    settings: IssuerSection,
    *,
    clock: TimeFloor,
) -> AsyncIterator[Issuing]:
    """Open what the settings say; the first of `sources` says who we are to those who ask.

    Raises:
        ConfigError: when a setting cannot be.
    """
    with svid_watch.opened(registry, sources, clock) as svids:
        if authority is None:
            yield Issuing(settings, svids)
            return
        async with _offered(authority, registry, sources[0], settings, svids, clock) as found:
            yield found


@contextlib.asynccontextmanager
async def _offered(  # noqa: PLR0913, PLR0917 -- its collaborators
    authority: Authority,
    registry: Registry,
    source: IdentitySource,
    settings: IssuerSection,
    svids: SvidWatch,
    clock: Clock,
) -> AsyncIterator[Issuing]:
    chips = attesting.opened(
        registry, ca_file=settings.tpm_ca_file, pcrs=settings.tpm_pcrs, clock=clock
    )
    workload = None
    if settings.workload_socket:
        offers = Offers(authority, registry, source, clock=clock)
        workload = WorkloadServer(offers, Path(settings.workload_socket))
    with chips as attestation:
        async with EnrolmentServer(
            authority,
            registry,
            source,
            clock=clock,
            late_s_max=settings.late_s_max,
            attestation=attestation,
            granted=svids.granted,
        ) as enrolment:
            yield Issuing(settings, svids, enrolment, workload)
