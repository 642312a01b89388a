"""What an issuer of one's own offers to others: the enrolment port, and the SPIFFE Workload API.

Where somebody else is the issuer (SPIRE) there is nothing to offer, and nothing is opened.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from plantroom.certs import attestation as attesting
from plantroom.certs.authority import Authority
from plantroom.certs.enrolment_server import EnrolmentServer, Granted
from plantroom.certs.registry import Registry
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
    """Nothing, one or both of the two; `start` listens for enrolment, `run` serves workloads."""

    def __init__(
        self,
        settings: IssuerSection,
        enrolment: EnrolmentServer | None = None,
        workload: WorkloadServer | None = None,
    ) -> None:
        self._settings = settings
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

    async def run(self) -> None:
        """Serve the Workload API for ever, if there is one.

        Raises:
            ConfigError: when its socket cannot be made there.
        """
        if self._workload is not None:
            await self._workload.run()
        await asyncio.get_running_loop().create_future()

    def metrics(self) -> list[Metric]:
        """Return the figures of what is offered."""
        parts = [part for part in (self._enrolment, self._workload) if part is not None]
        return [metric for part in parts for metric in part.metrics()]


@contextlib.asynccontextmanager
async def opened(  # noqa: PLR0913 -- its collaborators
    authority: Authority | None,
    registry: Registry,
    source: IdentitySource,
    settings: IssuerSection,
    *,
    clock: Clock,
    granted: Granted | None = None,
) -> AsyncIterator[Issuing]:
    """Open what the settings say; `source` says who we are, `granted` hears of every enrolment.

    Raises:
        ConfigError: when a setting cannot be.
    """
    if authority is None:
        yield Issuing(settings)
        return
    chips = attesting.opened(
        registry, ca_file=settings.tpm_ca_file, pcrs=settings.tpm_pcrs, clock=clock
    )
    workload = None
    if settings.workload_socket:
        offers = Offers(authority, registry, source, clock=clock)
        workload = WorkloadServer(offers, Path(settings.workload_socket))
    with chips as attestation:
        async with EnrolmentServer(
            authority, registry, source, clock=clock, attestation=attestation, granted=granted
        ) as enrolment:
            yield Issuing(settings, enrolment, workload)
