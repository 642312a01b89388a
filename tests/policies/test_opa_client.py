import asyncio
import re
from typing import Any

import aiohttp
import pytest

from plantroom.policies.opa_client import Endpoint, OpaClient
from plantroom.wire import tls
from plantroom.wire.errors import ConfigError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import BUILDING, Issuer
from tests.policies.facade import facade

OPA = SpiffeId(BUILDING, "agent/opa")
OTHER = SpiffeId(BUILDING, "agent/hvac-001")
GATEWAY = SpiffeId(BUILDING, "agent/gateway")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("https://opa.example:8181", Endpoint(host="opa.example", port=8181, secure=True)),
        ("https://[2001:db8::1]:8181/", Endpoint(host="[2001:db8::1]", port=8181, secure=True)),
        ("http://127.0.0.1:8181", Endpoint(host="127.0.0.1", port=8181, secure=False)),
        ("http://[::1]:8181", Endpoint(host="[::1]", port=8181, secure=False)),
    ],
)
def test_an_endpoint_is_read(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        *("", "opa:8181", "https://opa", "https://:8181", "https://opa:0", "https://opa:99999"),
        *("http://opa:8181", "http://10.0.0.1:8181", "https://a@b:1", "https://opa:1/v1?x"),
        "ftp://127.0.0.1:1",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("policy.endpoint is")):
        Endpoint.parse(text)


def asked(server_id: SpiffeId, wanted: SpiffeId) -> Any:
    issuer = Issuer(BUILDING)

    def identity(spiffe_id: SpiffeId) -> Identity:
        return issuer.identity(spiffe_id.path)

    async def scenario() -> Any:
        serving = tls.server_context(identity(server_id))
        context = tls.client_context(identity(GATEWAY), server_ids=(wanted,))
        async with facade(serving) as (server, port):
            endpoint = Endpoint(host="127.0.0.1", port=port, secure=True)
            async with OpaClient(endpoint, context, timeout_s=5.0) as client:
                try:
                    return await client.query_rule({}, "mqtt.authz", "well_formed")
                finally:
                    assert server.asked == (1 if server_id == wanted else 0)

    return asyncio.run(scenario())


def test_both_ends_show_their_svids() -> None:
    assert asked(OPA, OPA) == {"result": False}


def test_a_server_with_another_name_is_told_nothing() -> None:
    with pytest.raises(aiohttp.ClientConnectionError, match="server is"):
        asked(OTHER, OPA)


def test_a_connection_whose_answer_was_late_is_closed_with_its_client() -> None:
    """Its server says nothing any more, not even goodbye."""
    issuer = Issuer(BUILDING)
    serving = tls.server_context(issuer.identity(OPA.path))
    context = tls.client_context(issuer.identity(GATEWAY.path), server_ids=(OPA,))

    async def scenario() -> None:
        asked, ended, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            asked.set()
            await ended.wait()
            writer.transport.abort()
            gone.set()

        async with await asyncio.start_server(silent, "127.0.0.1", 0, ssl=serving) as server:
            port = server.sockets[0].getsockname()[1]
            endpoint = Endpoint(host="127.0.0.1", port=port, secure=True)
            async with OpaClient(endpoint, context, timeout_s=60.0) as client:
                question = asyncio.create_task(client.query_rule({}, "mqtt.authz", "decision"))
                await asked.wait()
                question.cancel()
                await asyncio.wait([question])
                (made,) = client._sockets
            assert made.fileno() == -1
            ended.set()
            await gone.wait()

    asyncio.run(scenario())


def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def scenario() -> Any:
        async with facade() as (_, port):
            endpoint = Endpoint(host="127.0.0.1", port=port, secure=False)
            async with OpaClient(endpoint, None, timeout_s=5.0) as client:
                return await client.query_rule({}, "mqtt.authz", "well_formed")

    assert asyncio.run(scenario()) == {"result": False}
