"""The gateway's policy, opened as one: desk, registry's watch, and the port where others ask."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from plantroom.certs.admission import RegistryWatch
from plantroom.certs.https import HttpsServer
from plantroom.certs.registry import Registry
from plantroom.gateway.policy_api import PolicyApi
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.state_folder import StateFolder
from plantroom.policies import desk
from plantroom.policies.desk import PolicyDesk, World
from plantroom.wire import tls
from plantroom.wire.alarm import cleared, raised
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError
from plantroom.wire.identity import IdentitySource
from plantroom.wire.link import Message
from plantroom.wire.metrics import Metric
from plantroom.wire.policy import DecisionPoint
from plantroom.wire.topics import GATEWAY

_log = logging.getLogger("plantroom.gateway.policing")


class Policing:
    """What decides in this building."""

    def __init__(
        self,
        office: PolicyDesk,
        watch: RegistryWatch,
        server: HttpsServer | None,
        *,
        site: str,
        clock: Clock,
    ) -> None:
        self._desk, self._watch, self._server = office, watch, server
        self._site, self._clock = site, clock

    @property
    def decisions(self) -> DecisionPoint:
        """Whom the broker asks."""
        return self._desk.decisions

    async def run(self, publish: Callable[[Message], Awaitable[int]]) -> None:
        """Follow registry and bundle until cancelled; what is wrong with a bundle is an alarm."""

        async def alarm(rule: str, text: str) -> None:
            make = raised if text else cleared
            await publish(make(self._site, rule, GATEWAY, text, self._clock.wall_us()))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run(), name="gateway.registry")
            tasks.create_task(self._desk.run(alarm), name="gateway.policy")

    def status(self) -> Mapping[str, object]:
        """Say who decides, by what."""
        return self._watch.status() | self._desk.status()

    def metrics(self) -> list[Metric]:
        """Return policy's figures."""
        name, what = "plantroom_policy_port_answers_total", "Answers of the policy port"
        answers = self._server.answers if self._server else {}
        return [
            *self._desk.metrics(),
            *(Metric(name, "counter", what, n, {"status": str(s)}) for s, n in answers.items()),
        ]


@asynccontextmanager
async def opened(
    settings: GatewaySettings,
    folder: StateFolder,
    registry: Registry,
    building: IdentitySource,
    *,
    clock: Clock,
) -> AsyncIterator[Policing]:
    """Open the building's policy; before the first connection it knows the registry.

    Raises:
        ConfigError: when there is no bundle that can be used, or the policy port is taken.
    """
    policy, agent = settings.policy, settings.agent
    world = World(
        clock=clock,
        label=f"spiffe://{agent.trust_domain}/agent/{agent.name}",
        cloud_trust_domain=settings.bridge.cloud_trust_domain,
        state=folder.root,
        identity=building,
    )
    async with desk.opened(policy, world) as office:
        watch = RegistryWatch(registry, office, period_s=policy.poll_s)
        watch.load()
        made = partial(Policing, office, watch, site=agent.site, clock=clock)
        if not policy.port:
            yield made(None)
            return
        async with HttpsServer(
            PolicyApi(office, building).answer, context=_Contexts(building)
        ) as server:
            try:
                port = await server.start(policy.host, policy.port)
            except ConfigError as error:
                error.remedy = "choose another policy.host or policy.port, or stop what has it"
                raise
            _log.info("policy is asked on port %d", port)
            yield made(server)


class _Contexts:
    """Gives the TLS context of the newest identity, made once for each."""

    def __init__(self, source: IdentitySource) -> None:
        self._source = source
        self._made: tuple[int, ssl.SSLContext] | None = None

    def __call__(self) -> ssl.SSLContext:
        identity = self._source.current()
        if self._made is None or self._made[0] != identity.revision:
            self._made = (identity.revision, tls.server_context(identity))
        return self._made[1]
