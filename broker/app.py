"""The stand-alone broker: opens its store, then its listener, and serves until it is stopped."""

import asyncio
import gc
import logging
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

from plantroom.broker.access import OneAnswer
from plantroom.broker.admin import administered
from plantroom.broker.catalog import open_sink
from plantroom.broker.pem import Check, PemContext, admit
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerSettings, WebSocketSection
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError
from plantroom.wire.policy import DecisionPoint

LOGGER = logging.getLogger("plantroom.broker.app")


Policy = Callable[[BrokerSettings], AbstractAsyncContextManager[DecisionPoint]]


async def main(
    settings: BrokerSettings, policy: Policy | None = None, check: Check | None = None
) -> None:
    """Run the broker.

    `policy` opens who decides, where [policy] names somebody; `check` is `pem.admit`'s.

    Raises:
        ConfigError: when the port is taken or the identity cannot be loaded.
        StorageError: when the store cannot be opened.
    """
    listen = settings.listen
    tls = listen.tls or (settings.websocket.enabled and settings.websocket.tls)
    identity = PemContext(settings.identity) if tls else None
    sink, close = open_sink(settings.store.kind, Path(settings.store.path))
    try:
        async with AsyncExitStack() as stack:
            broker = Broker(
                limits=settings.limits,
                store=sink,
                admit=partial(admit, check=check),
                decisions=await _decisions(settings, policy, stack),
                clock=SystemClock(),
            )
            socket = settings.admin.socket
            await stack.enter_async_context(
                administered(broker, Path(socket)) if socket else broker
            )
            gc.freeze()  # what a start has loaded is not looked through again and again
            http = settings.http
            if http.port:
                from plantroom.broker.exposition import exposed  # noqa: PLC0415 -- seldom wanted

                await stack.enter_async_context(exposed(broker, http.host, http.port))
                LOGGER.info("figures at http://%s:%d/metrics", http.host, http.port)
            context = identity.context if identity else None
            port = await broker.listen(listen.host, listen.port, context if listen.tls else None)
            LOGGER.info("listening on %s:%d", listen.host, port)
            if settings.websocket.enabled:
                await _listen_websocket(broker, settings.websocket, context)
            while True:
                await asyncio.sleep(settings.identity.reload_s)
                if identity is not None and identity.reload():
                    LOGGER.info("a new certificate is served")
    finally:
        close()


async def _decisions(
    settings: BrokerSettings, policy: Policy | None, stack: AsyncExitStack
) -> DecisionPoint:
    if settings.policy.provider == "none":
        return OneAnswer(allow=settings.access.allow_all)
    if policy is None:
        raise ConfigError(
            "policy.provider: this way to start the broker loads no policy",
            remedy="start it with `plantroom broker run`",
        )
    return await stack.enter_async_context(policy(settings))


async def _listen_websocket(
    broker: Broker, settings: WebSocketSection, context: ssl.SSLContext | None
) -> None:
    origins = [origin.strip() for origin in settings.origins.split(",") if origin.strip()]
    port = await broker.listen(
        settings.host,
        settings.port,
        context if settings.tls else None,
        websocket=True,
        origins=origins,
    )
    scheme = "wss" if settings.tls else "ws"
    LOGGER.info("listening on %s://%s:%d", scheme, settings.host, port)
