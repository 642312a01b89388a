"""The gateway from top to bottom: resources first, then the stages in the order data moves.

sensors → broker → segments → derive → queue → bridge → cloud, and what the cloud says back down.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from plantroom.broker import catalog as sinks
from plantroom.broker import segments
from plantroom.broker.admin import administered
from plantroom.broker.server import Broker
from plantroom.certs import admission, issuing
from plantroom.certs.holder import OwnSource, RunningSource, known
from plantroom.certs.issuing import Issuing
from plantroom.certs.registry import Registry
from plantroom.certs.statements import Statements
from plantroom.certs.time_floor import TimeFloor
from plantroom.gateway import crossing, identities, image_setup, ingress, policing, serving, trust
from plantroom.gateway.asking import Asking
from plantroom.gateway.bridge import Bridge
from plantroom.gateway.capabilities import Capabilities
from plantroom.gateway.cloud_link import CloudLink
from plantroom.gateway.crossing import Upward
from plantroom.gateway.derive import Deriver
from plantroom.gateway.holding import Holding
from plantroom.gateway.identities import Names
from plantroom.gateway.images import VOLATILE, Images
from plantroom.gateway.ingress import Intake
from plantroom.gateway.local_views import LocalViews, be_present
from plantroom.gateway.measures import Measures, Sources
from plantroom.gateway.pace import pace_of
from plantroom.gateway.policing import Policing
from plantroom.gateway.queue_schema import MIGRATIONS as QUEUE_TABLES
from plantroom.gateway.room import limits_of
from plantroom.gateway.salvage import Salvage
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.spool import Queue
from plantroom.gateway.state_folder import Reserve, StateFolder
from plantroom.gateway.tables import Life
from plantroom.gateway.trust import Trust
from plantroom.views.board import Board
from plantroom.views.view_topics import ViewTopics
from plantroom.wire import alarm, damage, tls, topics
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.damage import FILE_DAMAGED, set_aside_in
from plantroom.wire.database import Database
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import ConfigError
from plantroom.wire.link import Message
from plantroom.wire.metrics import Metric
from plantroom.wire.topics import GATEWAY

_log = logging.getLogger("plantroom.gateway.app")
VERSION = metadata.version("plantroom")


async def main(settings: GatewaySettings) -> None:
    """Run a gateway until cancelled."""
    folder = StateFolder(Path(settings.agent.state))
    if settings.agent.name != GATEWAY:
        raise ConfigError(
            "agent.name is not `gateway`, its one name on topics", where=settings.agent.name
        )

    async def serve() -> None:
        async with _opened(settings, folder) as parts:
            await _run(parts, _upward_stages(parts))

    with folder.held():
        await damage.outlive(folder.queue, serve)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is open while a gateway runs, from the bottom up."""

    settings: GatewaySettings
    folder: StateFolder
    clock: Clock
    names: Names
    database: Database
    queue: Queue
    policy: Policing
    cloud: RunningSource
    building: OwnSource
    trust: Trust
    broker: Broker
    issuing: Issuing
    board: Board

    @property
    def site(self) -> str:
        return self.settings.agent.site

    @property
    def trust_domain(self) -> str:
        return self.settings.agent.trust_domain

    async def publish(self, message: Message) -> int:
        """Publish as this gateway in the building."""
        return await self.broker.publish(message, publisher=str(self.names.building))

    async def deliver(self, message: Message) -> int:
        """Publish in the building what came from the cloud."""
        return await self.broker.publish(message, publisher=str(self.names.cloud))

    def presence(self, online: bool) -> Presence:  # noqa: FBT001 -- a presence is on or off
        """Return this gateway's birth or will."""
        return Presence(
            online=online,
            epoch=self.queue.incarnation,
            at_us=self.clock.wall_us() if online else None,
            info={"kind": "gateway", "version": VERSION},
        )


@contextlib.asynccontextmanager
async def _opened(settings: GatewaySettings, folder: StateFolder) -> AsyncIterator[_Parts]:
    """Open storage, identity, policy, and the servers, which do not listen yet."""
    clock, names = TimeFloor(SystemClock(), folder.time_floor), Names.of(settings)
    async with contextlib.AsyncExitStack() as stack:
        database = _open_database(settings, folder)
        stack.callback(database.close)
        sinks.check(database)
        life = Life(incarnation=secrets.randbits(53), clock=clock, random_bits=secrets.randbits)
        queue = Queue(
            database,
            life,
            limits_of(settings, disk_bytes=folder.disk_bytes()),
            disk_free=folder.disk_free,
            set_aside=set_aside_in(folder.queue),
        )
        await queue.start()
        registry = Registry.open(folder.registry, cloud_trust_domain=names.cloud.trust_domain)
        stack.callback(registry.close)
        authority = identities.open_authority(settings, folder, clock)
        cloud = identities.cloud_source(settings, folder, names, clock)
        issuer = (authority, registry)
        building = identities.building_source(settings, folder, issuer, cloud, names)
        await known(building)
        trusted = trust.opened(stack, folder, authority, (building, cloud), names)
        policy = await stack.enter_async_context(
            policing.opened(settings, folder, registry, building, clock=clock)
        )
        broker = Broker(
            limits=settings.limits,
            store=sinks.sqlite_sink(database),
            admit=identities.admit(settings, registry, building, trusted.issuers),
            decisions=policy.decisions,
            clock=clock,
            taps=(topics.subscription(ingress.TELEMETRY, settings.agent.site),),
            volatile=tuple(
                topics.subscription(pattern, settings.agent.site)
                for pattern in ("view/{device}/{point}", *VOLATILE)
            ),
            farewells=(topics.subscription("presence/{device}", settings.agent.site),),
        )
        yield _Parts(
            settings=settings,
            folder=folder,
            clock=clock,
            names=names,
            database=database,
            queue=queue,
            policy=policy,
            cloud=cloud,
            building=building,
            trust=trusted,
            broker=await stack.enter_async_context(administered(broker, folder.broker_socket)),
            issuing=await stack.enter_async_context(
                issuing.opened(
                    authority, registry, (building, cloud), settings.identity, clock=clock
                )
            ),
            board=Board(),
        )


def _open_database(settings: GatewaySettings, folder: StateFolder) -> Database:
    damage.check(folder.queue)
    synchronous = "FULL" if settings.queue.durability == "durable" else "NORMAL"
    return Database.open(
        folder.queue,
        sinks.MIGRATIONS | QUEUE_TABLES,
        synchronous=synchronous,
        gives_back=True,
        wal_bytes_max=settings.queue.reserve_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stages:
    """The stages through which readings move, and those beside them."""

    views: LocalViews
    deriver: Deriver
    link: CloudLink
    bridge: Bridge
    statements: Statements | None
    asking: Asking
    capabilities: Capabilities
    images: Images | None
    measures: Measures


def _upward_stages(parts: _Parts) -> _Stages:
    """Make the stages, each with its upstream and downstream."""
    broker = parts.broker
    holding = Holding(broker.tap_hold)
    upward = Upward(
        site=parts.site, trust_domain=parts.trust_domain, own_publisher=str(parts.names.cloud)
    )
    asking = Asking(
        site=parts.site,
        trust_domain=parts.trust_domain,
        publish=parts.publish,
        clock=parts.clock,
    )
    views = LocalViews(
        parts.board,
        parts.queue,
        site=parts.site,
        trust_domain=parts.trust_domain,
        clock=parts.clock,
        alarms=asking,
    )
    link = CloudLink(parts.settings, parts.names, parts.cloud, parts.trust.keeper, parts.presence)
    bridge = _bridge(parts, link, upward, asking)

    def derived(intakes: list[Intake]) -> None:
        views.derived(intakes)
        asking.derived(intakes)
        bridge.wake()

    deriver = Deriver(
        parts.database,
        parts.queue,
        arrivals=segments.arrivals,
        trust_domain=parts.trust_domain,
        holding=holding,
        derived=derived,
    )
    statements = parts.trust.statements(
        parts.settings, parts.names, publish=parts.publish, asking=asking
    )
    served = _images(parts, bridge)
    broker.on_tapped(deriver.wake)
    if statements is not None:
        for topic_filter in statements.filters(parts.site):
            broker.watch(topic_filter, statements.offer)
    broker.watch(views.presence_filter, views.present)
    broker.watch(topics.subscription(alarm.PATTERN, parts.site), asking.standing.heard)
    for topic_filter in crossing.upward_filters(parts.site):
        broker.watch(topic_filter, upward.offer)
    return _Stages(
        views=views,
        deriver=deriver,
        link=link,
        bridge=bridge,
        statements=statements,
        asking=asking,
        capabilities=_capabilities(parts, bridge),
        images=served,
        measures=_measures(parts, bridge, holding, served),
    )


def _capabilities(parts: _Parts, bridge: Bridge) -> Capabilities:
    made = Capabilities(
        site=parts.site,
        trust_domain=parts.trust_domain,
        board=parts.board,
        bridge=bridge,
        publish=parts.publish,
        clock=parts.clock,
        known=parts.queue.was_given,
    )
    parts.broker.watch(made.topic_filter, made.offer)
    return made


def _images(parts: _Parts, bridge: Bridge) -> Images | None:
    return image_setup.of(
        parts.settings.ota,
        parts.folder.ota,
        site=parts.site,
        publish=parts.publish,
        connected=lambda: bridge.connected,
        clock=parts.clock,
        watch=parts.broker.watch,
    )


def _bridge(parts: _Parts, link: CloudLink, upward: Upward, asking: Asking) -> Bridge:
    return Bridge(
        parts.queue,
        upward,
        connect=link.connect,
        site=parts.site,
        trust_domain=parts.trust_domain,
        pace=pace_of(parts.settings),
        clock=parts.clock,
        chance=random.random,
        deliver=parts.deliver,
        presence=parts.presence,
        sensors=asking,
    )


def _measures(parts: _Parts, bridge: Bridge, holding: Holding, served: Images | None) -> Measures:
    def others() -> Iterable[Metric]:
        own = (parts.broker, parts.issuing, parts.policy, *((served,) if served else ()))
        return [metric for part in own for metric in part.metrics()]

    reserve = Reserve(parts.folder.reserve, parts.settings.queue.reserve_bytes)
    return Measures(
        Sources(
            queue=parts.queue,
            bridge=bridge,
            database=parts.database,
            folder=parts.folder,
            reserve=reserve,
            clock=parts.clock,
            site=parts.site,
            building=parts.building,
            cloud=parts.cloud,
            holding=holding,
            policy=parts.policy.status,
            others=others,
        )
    )


def _salvage(parts: _Parts, stages: _Stages) -> Salvage:
    return Salvage(
        parts.queue,
        set_aside_in(parts.folder.queue),
        arrivals=segments.arrivals,
        trust_domain=parts.trust_domain,
        wake=stages.bridge.wake,
        done=partial(
            stages.asking.over, FILE_DAMAGED, GATEWAY, "", "what could be read of it is back"
        ),
    )


async def _run(parts: _Parts, stages: _Stages) -> None:
    """Start everything in the order in which data moves; sensors are served without a cloud."""
    settings = parts.settings
    await stages.views.restore(parts.database)
    for path in await parts.queue.to_salvage(set_aside_in(parts.folder.queue)):
        stages.asking.alarm(FILE_DAMAGED, GATEWAY, f"the queue was damaged, it is {path.name} now")
    context = tls.RotatingServerContext(parts.building.current())
    await parts.issuing.start()
    async with asyncio.TaskGroup() as tasks:

        def start(name: str, stage: Coroutine[None, None, object]) -> None:
            tasks.create_task(stage, name=f"gateway.{name}")

        start("policy", parts.policy.run(parts.publish))
        start("building-identity", parts.building.run())
        start("issue", parts.issuing.run(identities.crying(stages.asking, parts.names)))
        start("rotate", admission.rotate(parts.building, context))
        federation = parts.trust.federation(settings, parts.building, stages.asking)
        start("federation", federation.run())
        if stages.statements is not None:
            start("statements", stages.statements.run())
        start("derive", stages.deriver.run())
        start("salvage", _salvage(parts, stages).run())
        start("ask", stages.asking.run())
        start("presence", stages.views.run())
        start("measure", stages.measures.run())
        start("capabilities", stages.capabilities.run())
        if settings.views.publish:
            period_s = settings.views.period_s
            start("views", ViewTopics(parts.board, parts.publish, period_s=period_s).run())
        page = serving.page(
            settings.http, parts.board, stages.views.history, stages.measures, site=parts.site
        )
        start("http", serving.serve(page, settings.http, parts.building))
        if stages.images is not None:
            start("images", stages.images.run())
        if settings.bridge.address:
            start("cloud-identity", parts.cloud.run())
            renewed = partial(stages.link.renewed, bridge=stages.bridge)
            start("follow-cloud", identities.follow_cloud(parts.cloud, parts.building, renewed))
            start("bridge", stages.bridge.run())
        own = settings.broker
        port = await parts.broker.listen(own.host, own.port, context.context)
        _log.info("gateway of %s serves sensors on port %d", parts.site, port)
        await be_present(parts.site, parts.presence, parts.publish)
