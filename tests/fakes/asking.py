"""Asks an ASGI application without a socket."""

import asyncio
from collections.abc import Mapping

import httpx
from starlette.applications import Starlette


def get(
    app: Starlette,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    host: str = "localhost:8080",
) -> httpx.Response:
    """GET once."""

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(main())
