"""Who this gateway is: issuer and server in the building, an enrolled client in the cloud.

Where SPIRE is the issuer, both identities come from the Workload APIs of its agents.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantroom.certs import admission, atomic, attestors
from plantroom.certs.authority import Authority
from plantroom.certs.bundle import from_file
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.enrolled import BUNDLES_FILE, TOKEN_FILE, EnrolledSource
from plantroom.certs.enrolled_async import AsyncEnrolled
from plantroom.certs.enrolment_client import Server
from plantroom.certs.holder import OwnSource, RunningSource
from plantroom.certs.registry import Registry
from plantroom.certs.svid_watch import Say
from plantroom.certs.workload_api import WorkloadApiSource
from plantroom.certs.workload_registration import registering
from plantroom.certs.workload_stream import ENDPOINT_VARIABLE, owners_of, socket_path
from plantroom.gateway.asking import Asking
from plantroom.gateway.settings import WORKLOAD_API, GatewaySettings, split_address
from plantroom.gateway.state_folder import StateFolder
from plantroom.wire.clock import Clock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, IdentitySource, Principal, TrustBundle
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import GATEWAY

_log = logging.getLogger("plantroom.gateway.identities")
_BUNDLES_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The SPIFFE IDs that take part."""

    building: SpiffeId
    cloud: SpiffeId
    front: SpiffeId
    enrolment: SpiffeId

    @classmethod
    def of(cls, settings: GatewaySettings) -> "Names":
        """Make them from the settings."""
        agent, cloud = settings.agent, settings.bridge.cloud_trust_domain
        return cls(
            building=SpiffeId.parse(f"spiffe://{agent.trust_domain}/agent/{agent.name}"),
            cloud=SpiffeId.parse(f"spiffe://{cloud}/gateway/{agent.site}"),
            front=SpiffeId.parse(f"spiffe://{cloud}/{settings.bridge.cloud_id}"),
            enrolment=SpiffeId.parse(f"spiffe://{cloud}/{settings.identity.cloud_enrol_id}"),
        )


def open_authority(
    settings: GatewaySettings, folder: StateFolder, clock: Clock
) -> Authority | None:
    """Open the building's own issuer; None where somebody else is the issuer."""
    if settings.identity.provider == WORKLOAD_API:
        return None
    return Authority.open(folder.authority, settings.agent.trust_domain, clock=clock)


def cloud_source(
    settings: GatewaySettings, folder: StateFolder, names: Names, clock: Clock
) -> RunningSource:
    """Make the source of this gateway's identity in the cloud; it may have none yet."""
    identity = settings.identity
    if identity.provider == WORKLOAD_API:
        owners = owners_of(identity.workload_owner)
        path = socket_path(identity.cloud_workload_api)
        return WorkloadApiSource(path, names.cloud, owners=owners)
    host, port = split_address(identity.cloud_enrol_address, "identity.cloud_enrol_address")
    enrolled = EnrolledSource(
        folder.uplink,
        spiffe_id=names.cloud,
        server=Server(host=host, port=port, spiffe_id=names.enrolment),
        attestor=attestors.choose(
            identity.attestor,
            token_file=Path(identity.join_token_file or folder.uplink / TOKEN_FILE),
            spiffe_id=names.cloud,
            tpm=identity.tpm,
            tpm_ek=identity.tpm_ek,
        ),
        bundle_file=Path(identity.bundle_file) if identity.bundle_file else None,
        clock=clock,
    )
    return AsyncEnrolled(enrolled, clock=clock)


def building_source(
    settings: GatewaySettings,
    folder: StateFolder,
    issuer: tuple[Authority | None, Registry],
    cloud: RunningSource,
    names: Names,
) -> OwnSource:
    """Make the source of this gateway's identity in the building; its entry is made if missing."""
    identity = settings.identity
    authority, registry = issuer
    try:
        entry = registry.show(names.building)
    except IdentityError:
        entry = registry.create(names.building, dns=identity.dns, ips=identity.ips)
    if authority is None:
        return WorkloadApiSource(
            socket_path(identity.workload_api or os.environ.get(ENDPOINT_VARIABLE, "")),
            names.building,
            owners=owners_of(identity.workload_owner),
            told_of=(names.cloud.trust_domain,),
        )
    return EmbeddedSource(
        authority,
        names.building,
        ttl_s=identity.svid_ttl_s,
        dns=tuple(dict.fromkeys((*entry.dns, *identity.dns))),
        ips=tuple(dict.fromkeys((*entry.ips, *identity.ips))),
        bundles=_known_bundles(settings, folder, cloud),
    )


def admit(
    settings: GatewaySettings,
    registry: Registry,
    building: IdentitySource,
    issuers: Callable[[], Collection[str]] | None,
) -> Callable[[Any], Principal]:
    """Return the check of a client's certificate; whom another issuer vouches for is registered."""
    check = admission.admit(building, issuers)
    if settings.identity.provider != WORKLOAD_API:
        return check
    return registering(
        check,
        registry,
        trust_domain=settings.agent.trust_domain,
        cloud_trust_domain=settings.bridge.cloud_trust_domain,
    )


def _known_bundles(
    settings: GatewaySettings, folder: StateFolder, cloud: RunningSource
) -> Mapping[str, TrustBundle]:
    """Return the bundles that came with the cloud identity, or were given before it."""
    try:
        return cloud.current().bundles
    except IdentityError:
        given = settings.identity.bundle_file
        file = Path(given) if given else folder.uplink / BUNDLES_FILE
        data = atomic.read(file, bytes_max=_BUNDLES_BYTES_MAX)
        return from_file(settings.bridge.cloud_trust_domain, data) if data else {}


def crying(asking: Asking, names: Names) -> Say:
    """Raise alarms about SVIDs in the building; one of the gateway's two is the cloud's."""

    async def say(rule: str, spiffe_id: SpiffeId, text: str) -> None:
        rule = f"cloud-{rule}" if spiffe_id == names.cloud else rule
        device = GATEWAY if spiffe_id == names.cloud else spiffe_id.name
        if text:
            asking.alarm(rule, device, text)
        else:
            asking.over(rule, device, "", "it was renewed")

    return say


async def follow_cloud(
    cloud: IdentitySource, building: OwnSource, renewed: Callable[[Identity], Awaitable[None]]
) -> None:
    """Trust the cloud's newest bundle in the building, and connect with the newest SVID."""
    revision = 0
    while True:
        identity = await cloud.changed(revision)
        revision = identity.revision
        for bundle in identity.bundles.values():
            building.set_bundle(bundle)
        await renewed(identity)
