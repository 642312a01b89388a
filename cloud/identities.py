"""Who the cloud's services are, whom they let in, and how policy follows the registry."""

import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from plantroom.certs import admission, atomic
from plantroom.certs.authority import Authority
from plantroom.certs.bundle import all_from_json
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.holder import OwnSource
from plantroom.certs.registry import Registry
from plantroom.certs.roles import SERVICES, site_of
from plantroom.certs.svid_watch import Say
from plantroom.certs.workload_api import WorkloadApiSource
from plantroom.certs.workload_registration import registering
from plantroom.certs.workload_stream import ENDPOINT_VARIABLE, owners_of, socket_path
from plantroom.cloud.settings import WORKLOAD_API, CloudSettings
from plantroom.cloud.state_folder import StateFolder
from plantroom.wire import alarm
from plantroom.wire.clock import Clock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import IdentitySource, Principal, TrustBundle
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import CLOUD_SITE, GATEWAY

LOG = logging.getLogger("plantroom.cloud.identities")
FRONT, INGESTION = "front", "ingestion"
Publish = Callable[..., Awaitable[int]]
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


def open_authority(settings: CloudSettings, folder: StateFolder, clock: Clock) -> Authority | None:
    """Open the cloud's own issuer; None where somebody else is the issuer."""
    if settings.identity.provider == WORKLOAD_API:
        return None
    return Authority.open(folder.authority, settings.agent.trust_domain, clock=clock)


def source_of(
    name: str,
    settings: CloudSettings,
    authority: Authority | None,
    bundles: Mapping[str, TrustBundle],
) -> OwnSource:
    """Make the source of a service's identity; the front's names the hosts that it serves under."""
    identity = settings.identity
    if authority is None:
        return WorkloadApiSource(
            socket_path(identity.workload_api or os.environ.get(ENDPOINT_VARIABLE, "")),
            service_id(settings.agent.trust_domain, name),
            owners=owners_of(identity.workload_owner),
        )
    return EmbeddedSource(
        authority,
        service_id(settings.agent.trust_domain, name),
        ttl_s=identity.svid_ttl_s,
        dns=identity.dns if name == FRONT else (),
        ips=identity.ips if name == FRONT else (),
        bundles=bundles,
    )


def admit(
    settings: CloudSettings,
    registry: Registry,
    front: IdentitySource,
    issuers: Callable[[], Collection[str]] | None,
) -> Callable[[Any], Principal]:
    """Return the check of a client's certificate; whom another issuer vouches for is registered."""
    check = admission.admit(front, issuers)
    if settings.identity.provider != WORKLOAD_API:
        return check
    own = settings.agent.trust_domain
    return registering(check, registry, trust_domain=own, cloud_trust_domain=own)


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


def crying(publish: Publish, trust_domain: str, clock: Clock) -> Say:
    """Raise and clear alarms about SVIDs: those of gateways at their sites, the own at `cloud`."""
    front = str(service_id(trust_domain, FRONT))

    async def say(rule: str, spiffe_id: SpiffeId, text: str) -> None:
        site = site_of(spiffe_id, cloud_trust_domain=trust_domain)
        own = site == CLOUD_SITE
        place = (site, rule, spiffe_id.name) if own else (site, f"cloud-{rule}", GATEWAY)
        LOG.warning("alarm %s of %s: %s", rule, spiffe_id, text or "it is over")
        make = alarm.raised if text else alarm.cleared
        message = make(*place, text or "it was renewed", clock.wall_us())
        await publish(message, publisher=front)

    return say
