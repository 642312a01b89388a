"""The cloud from top to bottom: resources first, then the stages in the order data moves.

gateways → front broker → ingest → store → board → dashboard and view topics.
"""

import asyncio
import contextlib
import ipaddress
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from plantroom.broker.admin import administered
from plantroom.broker.catalog import open_sink
from plantroom.broker.server import Broker
from plantroom.certs import admission, issuing
from plantroom.certs.authority import Authority
from plantroom.certs.holder import OwnSource, known
from plantroom.certs.issuing import Issuing
from plantroom.certs.statements import Statements
from plantroom.certs.time_floor import TimeFloor
from plantroom.cloud import (
    catalog,
    identities,
    ota,
    ota_calls,
    ota_service,
    policing,
    retention,
    trust,
)
from plantroom.cloud.accepted import Accepted
from plantroom.cloud.devices import PRESENCE_FILTER, Devices
from plantroom.cloud.identities import FRONT, INGESTION
from plantroom.cloud.ingest import Ingest
from plantroom.cloud.ingest_calls import FILTER as CALLS_FILTER
from plantroom.cloud.ingest_calls import IngestCalls
from plantroom.cloud.ingest_link import IngestLink
from plantroom.cloud.membership import belongs_by_name
from plantroom.cloud.ota import Updates
from plantroom.cloud.service_link import ServiceLink
from plantroom.cloud.settings import CloudSettings
from plantroom.cloud.state_folder import StateFolder
from plantroom.cloud.status import Status
from plantroom.cloud.store import Store, StoreReader
from plantroom.cloud.trust import Trust
from plantroom.policies.desk import PolicyDesk
from plantroom.views import web
from plantroom.views.board import Board
from plantroom.views.view_topics import ViewTopics
from plantroom.wire import alarm, damage, tls, topics
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.errors import PlantroomError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.link import Message
from plantroom.wire.metrics import Metric
from plantroom.wire.reading import Reading

LOG = logging.getLogger("plantroom.cloud.app")
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where to dial what listens there
VIEW_FILTER = topics.subscription("view/{device}/{point}", "+")


def open_reader(state: Path, *, kind: str = "sqlite", path: str = "") -> StoreReader:
    """Open the store of a state folder for looking, whether a cloud runs there or not.

    Raises:
        StorageError: when there is none, or it cannot be read.
    """
    return catalog.READERS[kind](Path(path) if path else StateFolder(state).store)


async def main(settings: CloudSettings) -> None:
    """Run the cloud until cancelled.

    Raises:
        ConfigError: when a port or the state folder is taken.
        StorageError: when the state folder cannot be used.
    """
    folder = StateFolder(Path(settings.agent.state))

    async def serve() -> None:
        failure: BaseException | None = None
        try:
            async with _opened(settings, folder) as parts:
                await _run(parts)
        except* PlantroomError as group:
            failure = _first(group)  # raised in here it would be a group again
        if failure is not None:
            raise failure

    async def with_updates() -> None:
        await damage.outlive(folder.ota / ota_service.REGISTRY, serve)

    with folder.held():
        await damage.outlive(_store_path(settings, folder), with_updates)


def _open_store(settings: CloudSettings, folder: StateFolder) -> Store:
    path = _store_path(settings, folder)
    damage.check(path)
    return catalog.STORES[settings.store.kind](path, belongs_by_name)


def _store_path(settings: CloudSettings, folder: StateFolder) -> Path:
    return Path(settings.store.path) if settings.store.path else folder.store


def _first(group: BaseExceptionGroup[PlantroomError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is open while the cloud runs, from the bottom up."""

    settings: CloudSettings
    clock: Clock
    front: OwnSource
    ingestion: OwnSource
    policy: PolicyDesk
    registry_watch: admission.RegistryWatch
    trust: Trust
    store: Store
    accepted: Accepted
    broker: Broker
    issuing: Issuing
    board: Board
    devices: Devices
    updates: Updates | None
    update_identity: OwnSource


@contextlib.asynccontextmanager
async def _opened(settings: CloudSettings, folder: StateFolder) -> AsyncIterator[_Parts]:
    """Open storage, identity, policy, and the servers, which do not listen yet."""
    clock = TimeFloor(SystemClock(), folder.time_floor)
    trust_domain = settings.agent.trust_domain
    async with contextlib.AsyncExitStack() as stack:
        registry = identities.open_registry(settings, folder)
        stack.callback(registry.close)
        authority = identities.open_authority(settings, folder, clock)
        bundles = identities.known_bundles(settings, folder)
        front, ingestion, updater = await _sources(settings, authority, bundles)
        trusted = trust.opened(stack, folder, authority, registry, given=bundles, own=trust_domain)
        trusted.keeper.tell(front.trust, ingestion.trust, updater.trust)
        issuer = identities.service_id(trust_domain, ota.CLIENT_ID)
        updates = stack.enter_context(
            ota_service.opened(
                settings.ota, folder.ota, issuer=issuer, standing=trusted.standing, clock=clock
            )
        )
        sink, close_sink = open_sink("sqlite", folder.front)
        stack.callback(close_sink)
        store = _open_store(settings, folder)
        stack.callback(store.close)
        accepted = Accepted(folder.accepted, clock=clock, random_bits=secrets.randbits)
        stack.callback(accepted.close)
        policy = await stack.enter_async_context(
            policing.opened(settings, folder.root, front, authority)
        )
        watch = admission.RegistryWatch(registry, policy, period_s=settings.policy.poll_s)
        watch.load()
        broker = Broker(
            limits=settings.limits,
            store=sink,
            admit=identities.admit(settings, registry, front, trusted.issuers),
            decisions=policy.decisions,
            clock=clock,
            volatile=(VIEW_FILTER, *ota_service.VOLATILE),
            farewells=(PRESENCE_FILTER,),
        )
        board = Board(devices_max=settings.views.devices_max)
        own = (front, ingestion)
        yield _Parts(
            settings=settings,
            clock=clock,
            front=front,
            ingestion=ingestion,
            policy=policy,
            registry_watch=watch,
            trust=trusted,
            store=store,
            accepted=accepted,
            broker=await stack.enter_async_context(administered(broker, folder.broker_socket)),
            issuing=await stack.enter_async_context(
                issuing.opened(authority, registry, own, settings.identity, clock=clock)
            ),
            board=board,
            devices=Devices(board),
            updates=updates,
            update_identity=updater,
        )


async def _sources(
    settings: CloudSettings, authority: Authority | None, bundles: Mapping[str, TrustBundle]
) -> tuple[OwnSource, ...]:
    sources = tuple(
        identities.source_of(name, settings, authority, bundles)
        for name in (FRONT, INGESTION, ota.CLIENT_ID)
    )
    for source in sources[:2]:  # without these two it is no cloud; others may come late
        await known(source)
    return sources


async def _run(parts: _Parts) -> None:
    """Start everything in the order in which data moves."""
    settings = parts.settings
    await parts.devices.restore(parts.store)
    parts.broker.watch(PRESENCE_FILTER, parts.devices.present)
    publish = partial(parts.broker.publish, publisher=_devices(settings))
    statements = _statements(parts, publish)
    federation = parts.trust.federation(settings, parts.front, publish=publish, clock=parts.clock)
    context = tls.RotatingServerContext(parts.front.current())
    enrol_port = await parts.issuing.start()
    front = settings.front
    port = await parts.broker.listen(front.host, front.port, context.context)
    LOG.info("front broker on %s:%d, enrolment on port %s", front.host, port, enrol_port)
    ingest = Ingest(
        parts.store,
        belongs=belongs_by_name,
        clock=parts.clock,
        shown=partial(_show, parts.board),
        holes_max=settings.ingest.hello_holes_max,
    )
    parts.broker.watch(topics.subscription(alarm.PATTERN, "+"), ingest.standing.heard)
    link = IngestLink(
        ingest,
        parts.ingestion,
        address=lambda: (ANYWHERE.get(front.host, front.host), port),
        server_id=identities.service_id(settings.agent.trust_domain, FRONT),
        group_max=settings.ingest.group_batches_max,
        waiting_max=settings.ingest.waiting_batches_max,
    )
    damaged = await ingest.damaged(_set_aside(settings))
    async with asyncio.TaskGroup() as tasks:

        def start(name: str, stage: Coroutine[Any, Any, object]) -> None:
            tasks.create_task(stage, name=f"cloud.{name}")

        start("damage", _say(damaged, publish))
        start("registry", parts.registry_watch.run())
        start("federation", federation.run())
        if statements is not None:
            start("statements", statements.run())
        start("policy", parts.policy.run(partial(_alarm, parts)))
        start("front-identity", parts.front.run())
        trust_domain = settings.agent.trust_domain
        cry = identities.crying(parts.broker.publish, trust_domain, parts.clock)
        start("issue", parts.issuing.run(cry))
        start("ingest-identity", parts.ingestion.run())
        start("rotation", admission.rotate(parts.front, context))
        start("ingest", link.run())
        start("ingest-calls", _calls(parts, ingest).run())
        start("store", parts.store.run())
        if settings.store.retention_days:
            days = settings.store.retention_days
            start("retention", retention.keep(parts.store, days, parts.clock))
        if parts.updates is not None:
            start("ota-identity", parts.update_identity.run())
            start("ota", _serve_updates(parts, parts.updates, port))
        if settings.views.publish:
            start("views", _view_topics(parts).run())
        start("http", _serve(parts, _web(parts, ingest, link)))


async def _serve_updates(parts: _Parts, updates: Updates, port: int) -> None:
    settings = parts.settings
    await updates.restore()
    host = settings.front.host
    link = ServiceLink(
        ota.CLIENT_ID,
        parts.update_identity,
        filters=ota_service.filters(),
        address=lambda: (ANYWHERE.get(host, host), port),
        server_id=identities.service_id(settings.agent.trust_domain, FRONT),
        waiting_max=settings.ingest.waiting_batches_max,
    )
    await ota_service.run(updates, link)


def _calls(parts: _Parts, ingest: Ingest) -> IngestCalls:
    publisher = str(identities.service_id(parts.settings.agent.trust_domain, INGESTION))
    publish = partial(parts.broker.publish, publisher=publisher)
    answering = IngestCalls(ingest, parts.accepted, publish=publish, clock=parts.clock)
    parts.broker.watch(CALLS_FILTER, answering.offer)
    return answering


def _set_aside(settings: CloudSettings) -> Sequence[Path]:
    return damage.set_aside_in(_store_path(settings, StateFolder(Path(settings.agent.state))))


async def _say(messages: Iterable[Message], publish: trust.Publish) -> None:
    await asyncio.gather(*map(publish, messages))


async def _alarm(parts: _Parts, rule: str, text: str) -> None:
    """Raise or clear an alarm of the cloud's own."""
    make = alarm.raised if text else alarm.cleared
    front = str(parts.front.current().svid.spiffe_id)
    message = make(topics.CLOUD_SITE, rule, FRONT, text, parts.clock.wall_us())
    await parts.broker.publish(message, publisher=front)


def _devices(settings: CloudSettings) -> str:
    return str(identities.service_id(settings.agent.trust_domain, "devices"))


def _statements(parts: _Parts, publish: trust.Publish) -> Statements | None:
    made = parts.trust.statements(parts.settings, publish=publish, clock=parts.clock)
    if made is not None:
        for topic_filter in made.filters("+"):
            parts.broker.watch(topic_filter, made.offer)
    return made


def _show(board: Board, readings: Sequence[Reading], seen_us: int) -> None:
    """Show what was stored: of each device's readings with the same points, the newest."""
    newest: dict[tuple[str, tuple[str, ...]], Reading] = {}
    for reading in readings:
        key = (reading.device, tuple(point.name for point in reading.points))
        known = newest.get(key)
        if known is None or (known.epoch, known.seq) < (reading.epoch, reading.seq):
            newest[key] = reading
    for reading in newest.values():
        board.put(reading, seen_us=seen_us)


def _view_topics(parts: _Parts) -> ViewTopics:
    publisher = str(parts.front.current().svid.spiffe_id)
    publish = partial(parts.broker.publish, publisher=publisher)
    return ViewTopics(parts.board, publish, period_s=parts.settings.views.period_s)


def _web(parts: _Parts, ingest: Ingest, link: IngestLink) -> Starlette:
    status = Status(
        store=parts.store,
        ingest=ingest,
        link=link,
        devices=parts.devices,
        source=parts.ingestion,
    )

    def metrics() -> Iterable[Metric]:
        return [
            *ingest.metrics(),
            *status.metrics(parts.board),
            *parts.broker.metrics(),
            *parts.issuing.metrics(),
            *parts.policy.metrics(),
            *(ota_service.metrics(parts.updates) if parts.updates else ()),
        ]

    return web.make_app(
        board=parts.board,
        history=parts.store.history,
        status=status.tell,
        metrics=metrics,
        title="All sites",
        ready=status.why_not_ready,
        hosts=parts.settings.http.names,
        browsers_max=parts.settings.http.browsers_max,
        updates=partial(ota_calls.shown, parts.updates) if parts.updates else None,
    )


async def _serve(parts: _Parts, app: Starlette) -> None:
    """Serve the dashboard: to this machine as it is, to others over TLS with certificates."""
    http = parts.settings.http
    context: tls.RotatingServerContext | None = None
    if http.tls == "on" or (http.tls == "auto" and not _is_loopback(http.host)):
        context = tls.RotatingServerContext(parts.front.current())
    scheme, secured = ("https", context.context) if context else ("http", None)

    def bound(port: int) -> None:
        LOG.info("dashboard on %s://%s:%d/", scheme, http.host, port)

    async with asyncio.TaskGroup() as tasks:
        if context is not None:
            tasks.create_task(admission.rotate(parts.front, context), name="cloud.http-rotation")
        await web.serve(app, http.host, http.port, context=secured, on_bound=bound)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
