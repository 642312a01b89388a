"""What every identity source of an asyncio process shares: the newest identity, and who waits."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol

from plantroom.certs.renewal import Schedule
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, IdentitySource, Svid, TrustBundle


class RunningSource(IdentitySource, Protocol):
    """A source that gets and renews the identity itself."""

    async def run(self) -> None:
        """Get and renew the identity for ever."""
        ...

    def renewals(self) -> Schedule | None:
        """Say when it renews next, and how that goes; None where another decides."""
        ...


class OwnSource(RunningSource, Protocol):
    """A source of who one is at home: it can be told of other trust domains."""

    def set_bundle(self, bundle: TrustBundle) -> bool:
        """Trust another domain by this bundle; False if it is not taken."""
        ...

    def trust(self, bundle: TrustBundle) -> None:
        """Trust another domain by this bundle, whatever was known of it before."""
        ...


async def known(source: RunningSource) -> Identity:
    """Run a source until there is an identity, and return it."""
    with contextlib.suppress(IdentityError):
        return source.current()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(source.run(), name="certs.first-identity")
        identity = await source.changed(0)
        running.cancel()
    return identity


class IdentityHolder:
    """Holds the newest identity; `publish` belongs to the source, on the event loop's thread."""

    def __init__(self) -> None:
        self._identity: Identity | None = None
        self._news = asyncio.Event()

    def current(self) -> Identity:
        """Return the newest identity.

        Raises:
            IdentityError: with reason `no-svid` when there is none yet.
        """
        if self._identity is None:
            raise IdentityError("there is no SVID yet", reason="no-svid")
        return self._identity

    def renewals(self) -> Schedule | None:
        """Say when it renews next, and how that goes; None where another decides."""
        return None

    async def changed(self, revision: int) -> Identity:
        """Wait for an identity newer than `revision`, and return it."""
        while self._identity is None or self._identity.revision <= revision:
            await self._news.wait()
        return self._identity

    def publish(self, svid: Svid, bundles: Mapping[str, TrustBundle]) -> Identity:
        """Make this the newest identity and wake everybody who waits."""
        revision = self._identity.revision + 1 if self._identity else 1
        self._identity = Identity(svid=svid, bundles=dict(bundles), revision=revision)
        news, self._news = self._news, asyncio.Event()
        news.set()
        return self._identity
