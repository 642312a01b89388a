"""Whom the cloud trusts besides itself: each site's one trust domain, by what its gateway tells.

A building may revoke its own devices and nobody else; a site's trust domain is named for it, and is
the first of that name that its own gateway has told of.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from plantroom.certs import federation_settings
from plantroom.certs.authority import Authority
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.federation import Federation
from plantroom.certs.registry import Registry
from plantroom.certs.registry_trust import TrustStore
from plantroom.certs.roles import UPLINK
from plantroom.certs.statements import Say, Statements
from plantroom.cloud.settings import CloudSettings
from plantroom.cloud.state_folder import StateFolder
from plantroom.wire import alarm
from plantroom.wire.clock import Clock
from plantroom.wire.identity import IdentitySource, TrustBundle
from plantroom.wire.link import Message
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import CLOUD_SITE, GATEWAY, Topic

Publish = Callable[[Message], Awaitable[int]]


class Trust:
    """What is open of it while the cloud runs.

    `authority` is None where somebody else is the issuer (SPIRE): then there is nothing to tell,
    and its federation says whom to trust.
    """

    def __init__(
        self,
        authority: Authority | None,
        store: TrustStore,
        registry: Registry,
        given: Mapping[str, TrustBundle],
        own: str,
    ) -> None:
        self._authority = authority
        self._store = store
        self._registry = registry
        self._own = own
        self.keeper = BundleKeeper(store, given, own=own)
        self.issuers = store.issuers if authority else None

    def statements(
        self, settings: CloudSettings, *, publish: Publish, clock: Clock
    ) -> Statements | None:
        """Make the stage that tells and believes."""
        if self._authority is None:
            return None
        return Statements(
            self._authority,
            self._store,
            self.keeper,
            sites=self._sites,
            publish=publish,
            believes=self._believes,
            alarm=partial(_cry, publish, clock),
            period_s=settings.policy.poll_s,
        )

    def federation(
        self, settings: CloudSettings, front: IdentitySource, *, publish: Publish, clock: Clock
    ) -> Federation:
        """Make the stage that fetches further bundles."""
        section = settings.federation
        return Federation(
            federation_settings.endpoints(section),
            self.keeper,
            identity=front.current,
            alarm=partial(_cry, publish, clock, CLOUD_SITE, "bundle-refused"),
            refresh_s=section.refresh_s,
            timeout_s=section.timeout_s,
        )

    async def standing(self, site: str, device: str) -> str:
        """Say why a device may not ask for itself, or nothing: it may be revoked by any issuer."""

        def look() -> str:
            for name in self._store.denied(self._own):
                spiffe_id = SpiffeId.parse(name)
                if (spiffe_id.site, spiffe_id.name) == (site, device):
                    return "this device is revoked"
            return ""

        return await asyncio.to_thread(look)

    def _sites(self) -> Iterable[str]:
        return [entry.spiffe_id.name for entry in self._registry.list() if entry.role == UPLINK]

    def _believes(self, topic: Topic, publisher: str) -> Say | None:
        name = topic.names[0]
        if publisher != f"spiffe://{self._own}/gateway/{topic.site}" or site_of(name) != topic.site:
            return None
        others = {known for known in self.keeper.all() if site_of(known) == topic.site} - {name}
        return None if others else "own"


def site_of(trust_domain: str) -> str:
    """Return the site that a building's trust domain is named for."""
    return trust_domain.partition(".")[0]


def opened(  # noqa: PLR0913 -- what the trust rests on, each named
    stack: contextlib.AsyncExitStack,
    folder: StateFolder,
    authority: Authority | None,
    registry: Registry,
    *,
    given: Mapping[str, TrustBundle],
    own: str,
) -> Trust:
    """Open what is kept of others; `own` is the cloud's trust domain."""
    store = TrustStore(folder.registry)
    stack.callback(store.close)
    return Trust(authority, store, registry, given, own)


async def _cry(publish: Publish, clock: Clock, site: str, rule: str, text: str) -> None:
    await publish(alarm.raised(site, rule, GATEWAY, text, clock.wall_us()))
