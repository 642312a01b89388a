"""The web server: the page, its feed, a small JSON API, health and metrics.

`/` and its static files, `/feed` (server-sent events), `/api/latest`, `/api/history`,
`/api/status`, `/metrics`, `/healthz`, `/readyz`, and `/updates` where there are any. Read-only;
nothing is loaded from elsewhere.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plantroom.views.board import Board
from plantroom.views.feed import BROWSERS_MAX, Feeds
from plantroom.views.history import POINTS_MAX, History, HistoryQuery
from plantroom.views.page import STATIC, Page
from plantroom.views.serving import serve
from plantroom.wire import metrics as prometheus
from plantroom.wire.errors import PlantroomError, UsageError
from plantroom.wire.metrics import Metric
from plantroom.wire.rfc3339 import format_us, parse_us

__all__ = ["make_app", "serve"]

Status = Callable[[], Awaitable[Mapping[str, object]]]
Metrics = Callable[[], Iterable[Metric]]
Ready = Callable[[], str]

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def make_app(  # noqa: PLR0913 -- the sources of a page, each named
    *,
    board: Board,
    history: History,
    status: Status,
    metrics: Metrics,
    title: str,
    ready: Ready = lambda: "",
    hosts: Iterable[str] = (),
    browsers_max: int = BROWSERS_MAX,
    updates: Status | None = None,
) -> Starlette:
    """Make the web application.

    `status` gives JSON; of its keys the page shows, where there are any:
    `link` {state, since}, `queued` (readings on the way), `books` [{site, device, epoch, first,
    last, count, holes [[first, last]], quarantined, noted}], `stored`, `identity` {spiffe_id,
    not_after}.
    `ready` gives the empty text, or why not. `hosts` are further names that a browser may use.
    `updates` gives what the page of updates shows (`/updates`, `/api/updates`), if there is one.
    `app.state.feeds` is closed by `serving.serve` at its end.
    """
    feeds = Feeds(board, status, browsers_max=browsers_max)
    handlers = _Handlers(board=board, history=history, status=status, metrics=metrics, ready=ready)
    page = Page(STATIC, title=title, links={"/updates": "updates"} if updates else {})

    async def feed(_request: Request) -> Response:
        if feeds.full:
            return PlainTextResponse("too many browsers\n", 503, {"retry-after": "30"})
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(feeds.events(), media_type="text/event-stream", headers=headers)

    app = Starlette(
        routes=[
            Route("/", page.index),
            Route("/static/{name}", page.file),
            Route("/feed", feed),
            Route("/api/latest", handlers.latest),
            Route("/api/history", handlers.history),
            Route("/api/status", handlers.status),
            Route("/metrics", handlers.metrics),
            Route("/healthz", handlers.healthz),
            Route("/readyz", handlers.readyz),
            *([] if updates is None else _of_updates(page, updates)),
        ],
        middleware=[Middleware(_Shield, hosts=frozenset(hosts))],
        exception_handlers={PlantroomError: _refuse},
    )
    app.state.feeds = feeds
    return app


def _of_updates(page: Page, updates: Status) -> list[Route]:
    async def told(_request: Request) -> Response:
        return _json(dict(await updates()))

    return [Route("/updates", page.updates), Route("/api/updates", told)]


class _Handlers:
    """The API's answers."""

    def __init__(
        self, *, board: Board, history: History, status: Status, metrics: Metrics, ready: Ready
    ) -> None:
        self._board = board
        self._history = history
        self._status = status
        self._metrics = metrics
        self._ready = ready

    async def latest(self, request: Request) -> Response:
        """Every device with its newest values; `?site=`, `?device=` narrow it."""
        site, device = request.query_params.get("site"), request.query_params.get("device")
        wanted = [
            self._board.describe(key)
            for key in self._board.devices()
            if site in {None, key[0]} and device in {None, key[1]}
        ]
        return _json({"devices": wanted})

    async def history(self, request: Request) -> Response:
        """One point over time: `?device=&point=&from=&to=&points_max=&site=`."""
        query = _query(request)
        series = await self._history(query)
        if series is None:
            where = f"device {query.device}, point {query.point}"
            return _json({"error": "no such point", "where": where}, 404)
        return _json(
            {
                "site": series.site,
                "device": series.device,
                "point": series.point,
                "unit": series.unit,
                "rows": series.rows,
                "times": [format_us(time_us) for time_us, _ in series.samples],
                "values": [value for _, value in series.samples],
            }
        )

    async def status(self, _request: Request) -> Response:
        """Say what this process knows of itself."""
        return _json(dict(await self._status()))

    async def metrics(self, _request: Request) -> Response:
        """Prometheus' text format."""
        text = prometheus.render(self._metrics())
        return Response(text, headers={"content-type": prometheus.CONTENT_TYPE})

    async def healthz(self, _request: Request) -> Response:
        """Say that the loop turns."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Say that it is ready to do its work, or why not."""
        why_not = self._ready()
        return PlainTextResponse(f"{why_not or 'ready'}\n", 503 if why_not else 200)


def _json(content: object, code: int = 200) -> Response:
    return JSONResponse(content, code, {"cache-control": "no-store"})


async def _refuse(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400 if isinstance(error, UsageError) else 500)


def _query(request: Request) -> HistoryQuery:
    given = request.query_params
    for name in ("device", "point"):
        if not given.get(name):
            raise UsageError("a parameter is missing", where=name, remedy=f"add {name}=…")
    wanted = given.get("points_max", "1000")
    if not wanted.isdecimal() or not 2 <= int(wanted[:9]) <= POINTS_MAX:
        raise UsageError(f"points_max is not from 2 to {POINTS_MAX}", where=wanted[:20])
    return HistoryQuery(
        device=given["device"],
        point=given["point"],
        site=given.get("site"),
        from_us=parse_us(given["from"]) if given.get("from") else None,
        to_us=parse_us(given["to"]) if given.get("to") else None,
        points_max=int(wanted),
    )


class _Shield:
    """Adds the security headers, and refuses requests made under a public name of another's.

    A page elsewhere could have its own host name resolve to this machine (DNS rebinding): plain
    addresses and names without a dot cannot be such a name, others have to be configured.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (name.encode(), text.encode()) for name, text in SECURITY_HEADERS.items()
                ]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        if self._is_ours(Request(scope).headers.get("host", "")):
            await self._app(scope, receive, shielded)
        else:
            text = "this host name is not configured: add it to http.hosts\n"
            await PlainTextResponse(text, 421)(scope, receive, shielded)

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if not name or "." not in name or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
