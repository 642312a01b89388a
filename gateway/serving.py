"""The building's page over HTTP: to this machine as it is, to others over TLS with certificates."""

import asyncio

from starlette.applications import Starlette

from plantroom.certs.admission import rotate
from plantroom.gateway.settings import HttpSection
from plantroom.views import web
from plantroom.wire import tls
from plantroom.wire.identity import IdentitySource


async def serve(page: Starlette, http: HttpSection, source: IdentitySource) -> None:
    """Serve until cancelled.

    Raises:
        ConfigError: when the address cannot be had.
    """
    if not http.needs_tls:
        await web.serve(page, http.host, http.port)
        return
    context = tls.RotatingServerContext(source.current())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rotate(source, context), name="gateway.http-rotation")
        await web.serve(page, http.host, http.port, context=context.context)
