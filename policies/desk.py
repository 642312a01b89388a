"""Everything that one process has of policy, opened together: bundle, point, cache, record.

The broker asks `decisions`; the registry's watch tells `update`; `run` follows the bundle's folder,
or the OPA server. What is wrong with a bundle is said in `status`, in the metrics and by an alarm.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from plantroom.policies.cached import CachedPoint
from plantroom.policies.decision_log import DecisionLog, RecordedPoint
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.policies.source import BundleSource
from plantroom.wire import tls
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError, SpiffeIdError
from plantroom.wire.identity import IdentitySource
from plantroom.wire.metrics import Metric
from plantroom.wire.policy import DecisionPoint
from plantroom.wire.policy_settings import PolicySection
from plantroom.wire.spiffe import SpiffeId

FOLDER = "policy"  # in a process's state
LAST_GOOD = "last-good-bundle.json"
ALARM = "policy-bundle"
_LOG = logging.getLogger("plantroom.policies.desk")

Alarm = Callable[[str, str], Awaitable[None]]  # rule, and what is wrong; empty: nothing any more


class Point(DecisionPoint, Protocol):
    """A decision point that is told registry and revocations, and can be asked for any rule."""

    @property
    def revision(self) -> str:
        """The revision of the bundle that answers."""
        ...

    def update(
        self,
        *,
        registry: Mapping[str, Any] | None = None,
        revocation: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a new registry, new revocations, or both."""
        ...

    async def query(self, path: str, document: object) -> list[object]:
        """Return what there is at a path for an input: one value, or none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a process lends to its policy."""

    clock: Clock
    label: str  # the process's SPIFFE ID, in the record
    cloud_trust_domain: str
    state: Path | None = None  # None: nothing is kept
    identity: IdentitySource | None = None  # to connect to an OPA server with


async def _nobody(_rule: str, _text: str) -> None:
    """Tell nobody."""


class PolicyDesk:
    """One process's policy; make it with `opened`."""

    def __init__(  # noqa: PLR0913 -- the parts, each named
        self,
        settings: PolicySection,
        world: World,
        *,
        point: Point,
        log: DecisionLog | None,
        source: BundleSource | None,
        also_run: Callable[[], Any] | None,
    ) -> None:
        self._settings = settings
        self._source, self._log, self._also_run = source, log, also_run
        self._recorded = RecordedPoint(point, log, world.clock)
        self.point = point
        self.decisions = CachedPoint(self._recorded, world.clock, ttl_s_max=settings.cache_ttl_s)
        self.changes = 0

    @property
    def revision(self) -> str:
        """The revision of the bundle that decides."""
        return self.point.revision

    def update(
        self,
        *,
        registry: Mapping[str, Any] | None = None,
        revocation: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a new registry, new revocations, or both; see the point's `update`."""
        self.point.update(registry=registry, revocation=revocation)

    async def run(self, alarm: Alarm = _nobody) -> None:
        """Follow the bundle's folder, or the OPA server, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(alarm), name="policies.desk")
            if self._also_run is not None:
                tasks.create_task(self._also_run(), name="policies.server")

    async def _tick(self, alarm: Alarm) -> None:
        if self._source is not None and self._source.fault:
            await self._cry(self._source, alarm)
        while True:
            await asyncio.sleep(self._settings.poll_s)
            if self._source is not None and self._source.watched:
                await self._follow(self._source, alarm)
            if self._log is not None:
                self._log.flush()

    async def _follow(self, source: BundleSource, alarm: Alarm) -> None:
        """Take the folder's bundle when it has changed; a broken one changes nothing."""
        faulty = bool(source.fault)
        try:
            found = await asyncio.to_thread(source.look)
            if found is None:
                return
            if isinstance(self.point, EmbeddedPoint):  # the only one that has a source here
                self.point.replace(found)
        except ConfigError as error:
            if source.refused(error):
                await self._cry(source, alarm)
            return
        await asyncio.to_thread(source.adopted)
        self.changes += 1
        _LOG.info("policy bundle has changed: revision %s decides", found.revision)
        if faulty:
            await alarm(ALARM, "")

    async def _cry(self, source: BundleSource, alarm: Alarm) -> None:
        _LOG.error(
            "policy bundle is not taken, revision %s goes on (seen whole %.0f s ago): %s",
            *(self.revision, source.age_s, source.fault),
        )
        age = f"{source.fault} (revision {self.revision}, {source.age_s:.0f} s old, goes on)"
        await alarm(ALARM, age)

    def status(self) -> dict[str, object]:
        """Say who decides, by which bundle, and what is wrong with it."""
        said: dict[str, object] = {
            "revision": self.revision,
            "provider": self._settings.provider,
            "cached": len(self.decisions),
        }
        if self._source is not None:
            said["bundle"] = {
                "origin": self._source.origin,
                "age_s": round(self._source.age_s, 1),
                "fault": self._source.fault,
            }
        server = getattr(self.point, "status", None)
        return said if server is None else said | {"server": server()}

    def metrics(self) -> list[Metric]:
        """Return policy's own figures."""
        name = "plantroom_policy_"
        source, server = self._source, getattr(self.point, "metrics", list)
        age_s, fault = (source.age_s, bool(source.fault)) if source else (0.0, False)
        return [
            Metric(f"{name}bundle_fault", "gauge", "1 while its folder is refused", fault),
            Metric(f"{name}bundle_age_seconds", "gauge", "Since the bundle was seen whole", age_s),
            Metric(f"{name}bundle_changes_total", "counter", "Bundles taken", self.changes),
            Metric(
                f"{name}cache_entries", "gauge", "Answers kept in the cache", len(self.decisions)
            ),
            Metric(
                f"{name}cache_hits_total", "counter", "Answers from the cache", self.decisions.hits
            ),
            Metric(
                f"{name}cache_misses_total", "counter", "Answers not in it", self.decisions.misses
            ),
            *self._recorded.metrics(),
            *server(),
        ]


@asynccontextmanager
async def opened(settings: PolicySection, world: World) -> AsyncIterator[PolicyDesk]:
    """Open a process's policy.

    Raises:
        ConfigError: when there is no bundle that can be used, or no server that could be asked.
    """
    folder = None if world.state is None else world.state / FOLDER
    log = None
    if folder is not None and settings.log_bytes_max:
        log = DecisionLog(
            folder,
            clock=world.clock,
            label=world.label,
            bytes_max=settings.log_bytes_max,
            lines_s=settings.log_lines_s,
        )
    try:
        opening = _remote if settings.provider == "remote" else _embedded
        async with opening(settings, world, log) as desk:
            yield desk
    finally:
        if log is not None:
            log.close()


@asynccontextmanager
async def _embedded(
    settings: PolicySection, world: World, log: DecisionLog | None
) -> AsyncIterator[PolicyDesk]:
    source = BundleSource(
        Path(settings.bundle) if settings.bundle else None,
        clock=world.clock,
        key=Path(settings.bundle_key) if settings.bundle_key else None,
        keep=world.state / FOLDER / LAST_GOOD if world.state else None,
    )
    point = source.first(
        lambda rules: EmbeddedPoint(rules, cloud_trust_domain=world.cloud_trust_domain)
    )
    try:
        yield PolicyDesk(settings, world, point=point, log=log, source=source, also_run=None)
    finally:
        point.close()


@asynccontextmanager
async def _remote(
    settings: PolicySection, world: World, log: DecisionLog | None
) -> AsyncIterator[PolicyDesk]:
    from plantroom.policies.opa_client import Endpoint  # noqa: PLC0415 -- loads aiohttp
    from plantroom.policies.remote import RemotePoint  # noqa: PLC0415 -- the same

    endpoint = Endpoint.parse(settings.endpoint)
    source = world.identity if endpoint.secure else None
    server_id = _server_id(settings) if endpoint.secure else None
    if endpoint.secure and source is None:
        raise ConfigError(
            "policy.endpoint needs an identity to connect with", remedy="see [identity]"
        )

    def context() -> ssl.SSLContext | None:
        if source is None or server_id is None:
            return None
        return tls.client_context(source.current(), server_ids=(server_id,))

    async with RemotePoint(
        endpoint,
        clock=world.clock,
        context=context,
        identity=(lambda: source.current().revision) if source else (lambda: 0),
        push=settings.push,
        poll_s=settings.poll_s,
        timeout_s=settings.timeout_s,
        cloud_trust_domain=world.cloud_trust_domain,
        label=world.label,
    ) as point:
        yield PolicyDesk(settings, world, point=point, log=log, source=None, also_run=point.run)


def _server_id(settings: PolicySection) -> SpiffeId:
    try:
        return SpiffeId.parse(settings.endpoint_id)
    except SpiffeIdError as error:
        raise ConfigError(
            f"policy.endpoint_id is {settings.endpoint_id[:80]!r}: {error.what}",
            remedy="name the SPIFFE ID that the OPA server's certificate has",
        ) from error
