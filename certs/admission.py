"""What a broker takes from identity: who may connect, its own certificate, the registry."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, Protocol

from plantroom.certs.registry import Registry
from plantroom.certs.svid import verify_peer
from plantroom.wire.errors import IdentityError, PlantroomError
from plantroom.wire.identity import IdentitySource, Principal
from plantroom.wire.tls import RotatingServerContext

LOG = logging.getLogger("plantroom.certs.admission")


def admit(
    source: IdentitySource, issuers: Callable[[], Collection[str]] | None = None
) -> Callable[[Any], Principal]:
    """Return the check of a client's certificate, by what is known when it connects.

    `issuers`: the other trust domains whose list of the revoked is here. Nobody of one without a
    list is let in: it could be one of the revoked.
    """

    def check(connection: Any) -> Principal:
        identity = source.current()
        principal = verify_peer(connection, identity)
        domain = principal.spiffe_id.trust_domain
        own = domain == identity.svid.spiffe_id.trust_domain
        if not own and issuers is not None and domain not in issuers():
            raise IdentityError(
                "no list of the revoked has come from its trust domain yet",
                reason="no-denylist",
                where=str(principal.spiffe_id),
            )
        return principal

    return check


async def rotate(source: IdentitySource, context: RotatingServerContext) -> NoReturn:
    """Serve new connections with every new identity; one that cannot be served changes nothing."""
    revision = source.current().revision
    while True:
        identity = await source.changed(revision)
        revision = identity.revision
        try:
            context.rotate(identity)
        except IdentityError as error:
            LOG.error(  # noqa: TRY400 -- one line
                "new identity cannot be served, the old one stays: %s", error
            )


class Informed(Protocol):
    """Whoever decides by registry and revocations: the policy point."""

    @property
    def revision(self) -> str:
        """The revision of what decides."""
        ...

    def update(
        self,
        *,
        registry: Mapping[str, Any] | None = None,
        revocation: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the present state."""
        ...


class RegistryWatch:
    """Tells policy what the registry file says, also when a command has just changed it."""

    def __init__(self, registry: Registry, point: Informed, *, period_s: float) -> None:
        self._registry = registry
        self._point = point
        self._period_s = period_s
        self._counter = -1

    def load(self) -> None:
        """Give policy the present state; before the first connection."""
        self._adopt(self._registry.policy_data())

    def status(self) -> dict[str, object]:
        """Say which policy decides, and from which state of the registry."""
        return {"revision": self._point.revision, "registry": self._counter}

    async def run(self) -> NoReturn:
        """Look at the registry's counter for ever; what cannot be read leaves policy as it was."""
        while True:
            await asyncio.sleep(self._period_s)
            try:
                if await asyncio.to_thread(self._registry.counter) != self._counter:
                    self._adopt(await asyncio.to_thread(self._registry.policy_data))
                    LOG.info("registry has changed, policy follows (change %d)", self._counter)
            except PlantroomError as error:
                LOG.error(  # noqa: TRY400 -- one line
                    "registry cannot be read, policy stays as it was: %s", error
                )

    def _adopt(self, data: Mapping[str, Any]) -> None:
        self._point.update(registry=data["registry"], revocation=data["revocation"])
        self._counter = data["revocation"]["generation"]
