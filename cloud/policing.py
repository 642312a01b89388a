"""The cloud's policy: its desk, its alarm, and the SVID of an OPA server beside it.

`opa run --tls-cert-file=…/cert.pem --tls-private-key-file=…/key.pem --tls-ca-cert-file=…/ca.pem
--tls-cert-refresh-period=60s` takes what `keep` writes. Where SPIRE gives identities, spiffe-helper
does the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from plantroom.certs import credentials
from plantroom.certs.authority import Authority
from plantroom.cloud.identities import FRONT, service_id
from plantroom.cloud.settings import CloudSettings
from plantroom.policies import desk
from plantroom.policies.desk import PolicyDesk, World
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError, PlantroomError, SpiffeIdError
from plantroom.wire.identity import IdentitySource
from plantroom.wire.spiffe import SpiffeId

_LOG = logging.getLogger("plantroom.cloud.policing")
TTL_S = 24 * 3600
RETRY_S = 60.0


@asynccontextmanager
async def opened(
    settings: CloudSettings, state: Path, front: IdentitySource, authority: Authority | None
) -> AsyncIterator[PolicyDesk]:
    """Open the cloud's policy.

    Raises:
        ConfigError: when there is no bundle that can be used, or no server that could be asked.
    """
    world = World(
        clock=SystemClock(),
        label=str(service_id(settings.agent.trust_domain, FRONT)),
        cloud_trust_domain=settings.agent.trust_domain,
        state=state,
        identity=front,
    )
    folder = settings.policy.server_folder
    issuing = _issuing(settings, authority) if folder else None
    async with desk.opened(settings.policy, world) as office, asyncio.TaskGroup() as tasks:
        keeping = None
        if issuing is not None:
            stage = keep(*issuing, Path(folder))
            keeping = tasks.create_task(stage, name="cloud.policy-server-identity")
        try:
            yield office
        finally:
            if keeping is not None:
                keeping.cancel()


def _issuing(settings: CloudSettings, authority: Authority | None) -> tuple[Authority, SpiffeId]:
    """Return who issues the server's SVID, and for whom."""
    if authority is None:
        raise ConfigError(
            "policy.server_folder: somebody else is the issuer here",
            remedy="leave it empty, and give the OPA server its SVID by spiffe-helper",
        )
    try:
        return authority, SpiffeId.parse(settings.policy.endpoint_id)
    except SpiffeIdError as error:
        raise ConfigError(
            f"policy.endpoint_id: {error.what}", remedy="name the OPA server's SPIFFE ID"
        ) from error


async def keep(authority: Authority, spiffe_id: SpiffeId, folder: Path) -> NoReturn:
    """Write the folder now, and again at half the SVID's life, for ever.

    Only the cloud's own roots are in it: nobody of another trust domain is let in by that server.
    """
    while True:
        try:
            await asyncio.to_thread(
                credentials.write_folder, authority, spiffe_id, folder, bundles={}, ttl_s=TTL_S
            )
        except PlantroomError as error:
            _LOG.error("no SVID for the OPA server: %s", error)
            await asyncio.sleep(RETRY_S)
            continue
        _LOG.info("SVID of %s is in %s", spiffe_id, folder)
        await asyncio.sleep(TTL_S / 2)
