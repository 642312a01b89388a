"""Whom this building trusts besides itself, and what it tells the cloud about itself.

The cloud may revoke anybody here; it says so, and which roots are its own, over the bridge only.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from plantroom.certs import federation_settings
from plantroom.certs.authority import Authority
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.enrolled_async import AsyncEnrolled
from plantroom.certs.federation import Federation
from plantroom.certs.holder import OwnSource, RunningSource
from plantroom.certs.registry_trust import TrustStore
from plantroom.certs.statements import Say, Statements
from plantroom.gateway.identities import Names
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.state_folder import StateFolder
from plantroom.wire.identity import IdentitySource
from plantroom.wire.link import Message
from plantroom.wire.topics import GATEWAY, Topic


class Asking(Protocol):
    """Who raises alarms here (`gateway.asking.Asking`)."""

    def alarm(self, rule: str, device: str, text: str) -> None:
        """Raise an alarm."""
        ...


class Trust:
    """What is open of it while a gateway runs.

    `authority` is None where somebody else is the issuer (SPIRE): then there is nothing to tell,
    and its federation says whom to trust.
    """

    def __init__(
        self, authority: Authority | None, store: TrustStore, building: OwnSource, own: str
    ) -> None:
        self._authority = authority
        self._store = store
        given = building.current().bundles if authority else {}
        self.keeper = BundleKeeper(store, given, own=own)
        self.keeper.tell(building.trust)
        self.issuers = store.issuers if authority else None

    def statements(
        self,
        settings: GatewaySettings,
        names: Names,
        *,
        publish: Callable[[Message], Awaitable[int]],
        asking: Asking,
    ) -> Statements | None:
        """Make the stage that tells and believes."""
        if self._authority is None:
            return None
        site = settings.agent.site

        async def cry(_site: str, rule: str, text: str) -> None:
            asking.alarm(rule, GATEWAY, text)

        return Statements(
            self._authority,
            self._store,
            self.keeper,
            sites=lambda: (site,),
            publish=publish,
            believes=believes(str(names.cloud), settings.bridge.cloud_trust_domain),
            alarm=cry,
            period_s=settings.policy.poll_s,
        )

    def federation(
        self, settings: GatewaySettings, building: IdentitySource, asking: Asking
    ) -> Federation:
        """Make the stage that fetches further bundles."""

        async def cry(text: str) -> None:
            asking.alarm("bundle-refused", GATEWAY, text)

        section = settings.federation
        return Federation(
            federation_settings.endpoints(section),
            self.keeper,
            identity=building.current,
            alarm=cry,
            refresh_s=section.refresh_s,
            timeout_s=section.timeout_s,
        )


def opened(
    stack: contextlib.AsyncExitStack,
    folder: StateFolder,
    authority: Authority | None,
    sources: tuple[OwnSource, RunningSource],
    names: Names,
) -> Trust:
    """Open what is kept of others.

    `sources`: who we are here, and in the cloud, which is renewed when the cloud has a new root.
    """
    building, cloud = sources
    store = TrustStore(folder.registry)
    stack.callback(store.close)
    made = Trust(authority, store, building, names.building.trust_domain)
    if isinstance(cloud, AsyncEnrolled):
        schedule = cloud.source.schedule
        made.keeper.on_news(lambda _: schedule.hurry())
    return made


def believes(bridge: str, cloud_trust_domain: str) -> Callable[[Topic, str], Say | None]:
    """Return who may say what here: the cloud about itself and everybody, through our bridge."""

    def check(topic: Topic, publisher: str) -> Say | None:
        theirs = topic.names[0] == cloud_trust_domain
        return "all" if theirs and publisher == bridge else None

    return check
