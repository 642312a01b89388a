"""The building's page over HTTP: to this machine as it is, to others over TLS with certificates."""

import asyncio

from starlette.applications import Starlette

from plantroom.certs.admission import rotate
from plantroom.gateway.measures import Measures
from plantroom.gateway.settings import HttpSection
from plantroom.views import web
from plantroom.views.board import Board
from plantroom.views.history import History
from plantroom.wire import tls
from plantroom.wire.identity import IdentitySource


def page(
    http: HttpSection, board: Board, history: History, measures: Measures, *, site: str
) -> Starlette:
    """Make the building's page."""
    return web.make_app(
        board=board,
        history=history,
        status=measures.status,
        metrics=measures.metrics,
        ready=measures.ready,
        title=f"{site} gateway",
        hosts=http.names,
    )


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
