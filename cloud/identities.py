"""Who the cloud's services are, whom they let in, and how policy follows the registry."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from plantroom.certs import atomic
from plantroom.certs.authority import Authority
from plantroom.certs.bundle import all_from_json
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.registry import Registry
from plantroom.certs.roles import SERVICES
from plantroom.certs.svid import verify_peer
from plantroom.cloud.settings import CloudSettings
from plantroom.cloud.state_folder import StateFolder
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.errors import IdentityError, PlantroomError
from plantroom.wire.identity import IdentitySource, Principal, TrustBundle
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.tls import RotatingServerContext

LOG = logging.getLogger("plantroom.cloud.identities")
FRONT, INGESTION = "front", "ingestion"
BUNDLES_BYTES_MAX = 1 << 20


def service_id(trust_domain: str, name: str) -> SpiffeId:
    """Return the SPIFFE ID of one of the cloud's services."""
    return SpiffeId.parse(f"spiffe://{trust_domain}/agent/{name}")


def open_registry(settings: CloudSettings, folder: StateFolder) -> Registry:
    """Open the registry; a new one gets the entries of the cloud's own services.

    What an operator deletes or revokes later stays deleted and revoked.
    """
    is_new = not folder.registry.exists()
    trust_domain, identity = settings.agent.trust_domain, settings.identity
    registry = Registry.open(folder.registry, cloud_trust_domain=trust_domain)
    if is_new:
        for name in SERVICES:
            serves = name == FRONT
            registry.create(
                service_id(trust_domain, name),
                dns=identity.dns if serves else (),
                ips=identity.ips if serves else (),
            )
    return registry


def source_of(
    name: str, settings: CloudSettings, authority: Authority, bundles: Mapping[str, TrustBundle]
) -> EmbeddedSource:
    """Make the source of a service's identity; the front's names the hosts that it serves under."""
    identity = settings.identity
    return EmbeddedSource(
        authority,
        service_id(settings.agent.trust_domain, name),
        ttl_s=identity.svid_ttl_s,
        dns=identity.dns if name == FRONT else (),
        ips=identity.ips if name == FRONT else (),
        bundles=bundles,
    )


def known_bundles(settings: CloudSettings, folder: StateFolder) -> Mapping[str, TrustBundle]:
    """Return the buildings' bundles that were given, none if there is no file.

    Raises:
        IdentityError: when the file is not what it should be.
    """
    given = settings.identity.bundle_file
    data = atomic.read(Path(given) if given else folder.bundles, bytes_max=BUNDLES_BYTES_MAX)
    if data is None and given:
        raise IdentityError("there is no such bundle file", reason="no-bundle", where=given)
    return all_from_json(data) if data else {}


def admit(source: IdentitySource) -> Callable[[Any], Principal]:
    """Return the check of a client's certificate, by what is known when it connects."""

    def check(connection: Any) -> Principal:
        return verify_peer(connection, source.current())

    return check


async def rotate(source: IdentitySource, context: RotatingServerContext) -> NoReturn:
    """Serve new connections with every new identity."""
    revision = source.current().revision
    while True:
        identity = await source.changed(revision)
        revision = identity.revision
        context.rotate(identity)


class RegistryWatch:
    """Tells policy what the registry file says, also when a command has just changed it."""

    def __init__(self, registry: Registry, point: EmbeddedPoint, *, period_s: float) -> None:
        self._registry = registry
        self._point = point
        self._period_s = period_s
        self._counter = -1

    def load(self) -> None:
        """Give policy the present state; before the first connection."""
        self._adopt(self._registry.policy_data())

    def _adopt(self, data: Mapping[str, Any]) -> None:
        self._point.update(registry=data["registry"], revocation=data["revocation"])
        self._counter = data["revocation"]["generation"]

    async def run(self) -> NoReturn:
        """Look at the registry's counter for ever; one that cannot be read changes nothing."""
        while True:
            await asyncio.sleep(self._period_s)
            try:
                if await asyncio.to_thread(self._registry.counter) != self._counter:
                    self._adopt(await asyncio.to_thread(self._registry.policy_data))
                    LOG.info("registry has changed, policy follows (change %d)", self._counter)
            except PlantroomError as error:
                LOG.error("registry cannot be read: %s", error)  # noqa: TRY400 -- one line
