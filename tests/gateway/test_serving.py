"""Who may look at the building's page from elsewhere."""

import asyncio
import contextlib
import ssl
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from plantroom.gateway.serving import serve
from plantroom.gateway.settings import HttpSection
from plantroom.wire import tls
from plantroom.wire.identity import Identity
from tests.fakes.issuer import BUILDING, Issuer
from tests.fakes.ports import free_port


class Source:
    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def current(self) -> Identity:
        return self._identity

    async def changed(self, revision: int) -> Any:
        del revision
        await asyncio.Event().wait()


class Feeds:
    def close(self) -> None:
        pass


async def answer(port: int, context: ssl.SSLContext | None) -> bytes:
    """Ask once; the empty text when the connection is refused or cut."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except OSError:
        return b""
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await reader.read()).partition(b"\r\n")[0]
    except OSError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_from_elsewhere_only_over_tls_with_a_certificate(mode: str) -> None:
    issuer = Issuer(BUILDING)
    port = free_port()
    http = HttpSection(host="0.0.0.0", port=port, tls=mode)  # noqa: S104 -- what is tested
    page = Starlette(routes=[Route("/", lambda _request: PlainTextResponse("page"))])
    page.state.feeds = Feeds()

    async def main() -> None:
        serving = asyncio.create_task(serve(page, http, Source(issuer.identity("agent/gateway"))))
        anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
        person = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        person.check_hostname, person.verify_mode = False, ssl.CERT_NONE
        tls.load_svid(person, issuer.identity("agent/ann").svid)
        first = None if mode == "off" else person
        async with asyncio.timeout(60):
            while not await answer(port, first):  # noqa: ASYNC110 -- it says nowhere that it listens
                await asyncio.sleep(0)
            plain, known = await answer(port, None), await answer(port, person)
            unknown = await answer(port, anonymous)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        ok = b"HTTP/1.1 200 OK"
        assert (plain, known, unknown) == ((b"", ok, b"") if mode == "auto" else (ok, b"", b""))

    asyncio.run(main())
