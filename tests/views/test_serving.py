import asyncio
import contextlib
import signal
import socket
from collections.abc import Mapping

import httpx
import pytest
from starlette.applications import Starlette

from plantroom.views.board import Board
from plantroom.views.history import HistoryQuery, Series
from plantroom.views.serving import serve
from plantroom.views.web import make_app
from plantroom.wire.errors import ConfigError

WAIT_S = 20.0


async def nothing(_query: HistoryQuery) -> Series | None:
    return None


async def status() -> Mapping[str, object]:
    return {}


def app() -> Starlette:
    return make_app(board=Board(), history=nothing, status=status, metrics=list, title="T")


def test_serves_until_cancelled_with_a_browser_following_and_signals_untouched() -> None:
    async def main() -> None:
        bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        serving = asyncio.create_task(serve(app(), "127.0.0.1", 0, on_bound=bound.set_result))
        async with asyncio.timeout(WAIT_S):
            address = f"http://127.0.0.1:{await bound}"
            async with httpx.AsyncClient(base_url=address) as client:
                assert (await client.get("/healthz")).text == "ok\n"
                after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
                assert after == before
                async with client.stream("GET", "/feed") as feed:
                    assert await anext(feed.aiter_lines()) == "event: status"
                    serving.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await serving
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient(base_url=address) as client:
                    await client.get("/healthz")

    asyncio.run(main())


def test_port_that_is_taken_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*http\.port"):
            asyncio.run(serve(app(), "127.0.0.1", port))


def test_address_of_another_machine_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        asyncio.run(serve(app(), "192.0.2.1", 0))
