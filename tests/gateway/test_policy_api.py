"""OPA's REST data API of the gateway, asked by the clients that people have."""

import asyncio
import http.client
import json
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opa_client.opa_async import AsyncOpaClient  # type: ignore[import-untyped]

from plantroom.certs.https import HttpsServer
from plantroom.gateway.policy_api import PolicyApi
from plantroom.policies import desk
from plantroom.policies.desk import World
from plantroom.policies.opa_client import Endpoint, OpaClient
from plantroom.wire import tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity
from plantroom.wire.policy_settings import PolicySection
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import BUILDING, Issuer

GATEWAY = SpiffeId(BUILDING, "agent/gateway")
HVAC, OTHER = (f"spiffe://{BUILDING}/agent/hvac-00{n}" for n in (1, 2))
ANN = "spiffe://smart-building.cloud/operator/ann"
QUESTION: dict[str, Any] = {
    "spiffe_id": HVAC,
    "cert_serial": "0A",
    "client_id": "hvac-001",
    "action": "publish",
    "topic": "v1/building-1/telemetry/hvac-001",
    "qos": 1,
    "retain": False,
}
CALL = QUESTION | {
    "spiffe_id": ANN,
    "cert_serial": "",
    "action": "call",
    "topic": "v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann",
}


class Still:
    """An identity source that has one identity."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def current(self) -> Identity:
        return self._identity

    async def changed(self, revision: int) -> Identity:
        raise IdentityError(f"never after {revision}", reason="test")


def entry(role: str, name: str) -> dict[str, str]:
    return {"role": role, "site": "building-1", "device": name, "status": "active"}


REGISTRY = {
    "devices": {
        HVAC: entry("sensor", "hvac-001"),
        OTHER: entry("sensor", "hvac-002"),
        str(GATEWAY): entry("gateway", "gateway"),
    }
}


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer(BUILDING)


@asynccontextmanager
async def serving(issuer: Issuer, **revoked: str) -> AsyncIterator[int]:
    identity = issuer.identity("agent/gateway")
    world = World(
        clock=SystemClock(), label=str(GATEWAY), cloud_trust_domain="smart-building.cloud"
    )
    async with desk.opened(PolicySection(), world) as office:
        revocation = {"generation": 1, "spiffe_ids": revoked, "serials": {}}
        office.update(registry=REGISTRY, revocation=revocation)
        context = tls.server_context(identity)
        api = PolicyApi(office, Still(identity))
        async with HttpsServer(api.answer, context=lambda: context) as server:
            yield await server.start("127.0.0.1", 0)


def context_of(issuer: Issuer, name: str) -> ssl.SSLContext:
    return tls.client_context(issuer.identity(f"agent/{name}"), server_ids=(GATEWAY,))


def ask(
    port: int, context: ssl.SSLContext, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        text = body if isinstance(body, str | None) else json.dumps(body)
        connection.request(method, path, text)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def asked(issuer: Issuer, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async def scenario() -> tuple[int, Any]:
        async with serving(issuer) as port:
            return await asyncio.to_thread(ask, port, context_of(issuer, who), method, path, body)

    return asyncio.run(scenario())


def test_a_decision_is_answered_as_opa_answers(issuer: Issuer) -> None:
    path = "/v1/data/mqtt/authz/decision"
    status, said = asked(issuer, "hvac-001", "POST", path, {"input": QUESTION})
    assert status == 200
    assert said["decision_id"]
    assert said["result"]["allow"] is True
    assert said["result"]["rule"] == "sensor may publish v1/{site}/telemetry/{name}"
    assert said["result"]["ttl_s"] == 300


def test_rules_and_packages_and_what_is_undefined(issuer: Issuer) -> None:
    for path, result in (
        ("mqtt/authz/allow", True),
        ("mqtt/authz/reason", "ok"),
        ("mqtt/topics/bytes_max", 1024),
        ("acl/deny_ttl_s", 15),
    ):
        said = asked(issuer, "hvac-001", "POST", f"/v1/data/{path}", {"input": QUESTION})
        assert said == (200, said[1])
        assert said[1]["result"] == result, path
    status, said = asked(issuer, "hvac-001", "POST", "/v1/data/mqtt/nothing", {"input": QUESTION})
    assert (status, "result" in said) == (200, False)
    status, said = asked(issuer, "hvac-001", "POST", "/v1/data/mqtt/authz", {"input": QUESTION})
    assert said["result"]["allow"] is True


def test_an_input_may_stand_in_the_address(issuer: Issuer) -> None:
    from urllib.parse import quote

    path = f"/v1/data/mqtt/authz/allow?input={quote(json.dumps(QUESTION))}"
    assert asked(issuer, "hvac-001", "GET", path)[1]["result"] is True


def test_health(issuer: Issuer) -> None:
    assert asked(issuer, "hvac-001", "GET", "/health") == (200, {})


def test_a_target_may_ask_about_its_caller_and_gets_the_policys_answer(issuer: Issuer) -> None:
    path = "/v1/data/mqtt/authz/decision"
    status, said = asked(issuer, "hvac-001", "POST", path, {"input": CALL})
    assert (status, said["result"]["allow"]) == (200, True)
    topic = str(CALL["topic"]).replace("operator:ann", "dashboard").replace("read_sensors", "blink")
    dashboard = "spiffe://smart-building.cloud/agent/dashboard"
    body = {"input": CALL | {"spiffe_id": dashboard, "topic": topic}}
    assert asked(issuer, "hvac-001", "POST", path, body)[1]["result"]["allow"] is False


@pytest.mark.parametrize(
    ("who", "path", "body", "status"),
    [
        ("hvac-002", "/v1/data/mqtt/authz/decision", {"input": QUESTION}, 403),
        ("hvac-002", "/v1/data/mqtt/authz/decision", {"input": CALL}, 403),
        ("ghost", "/v1/data/mqtt/authz/decision", {"input": QUESTION}, 403),
        ("hvac-001", "/v1/data/registry/devices", {"input": QUESTION}, 403),
        ("hvac-001", "/v1/data/revocation", {"input": QUESTION}, 403),
        ("hvac-001", "/v1/data", {"input": QUESTION}, 403),
        ("hvac-001", "/v1/data/mqtt/authz/decision", None, 403),
        ("hvac-001", "/v1/data/mqtt/authz/decision", {"input": "x"}, 403),
        ("hvac-001", "/v1/data/mqtt.authz[x]", {"input": QUESTION}, 403),
        ("gateway", "/v1/data/registry/devices", {"input": QUESTION}, 403),
        ("hvac-001", "/v1/data/mqtt/authz/decision", "{", 400),
        ("hvac-001", "/v1/data/mqtt/authz/decision", "[1]", 400),
        ("hvac-001", "/v1/data/mqtt/authz/decision", "[" * 50_000, 400),
        ("hvac-001", "/v1/query", {"query": "data"}, 404),
        ("hvac-001", "/v1/compile", {}, 404),
        ("hvac-001", "/v1/data/mqtt/authz/decision", " " * 100_000, 413),
    ],
)
def test_what_is_not_theirs_is_refused(
    issuer: Issuer, who: str, path: str, body: Any, status: int
) -> None:
    code, said = asked(issuer, who, "POST", path, body)
    assert code == status, said
    assert said["reason"]


def test_nothing_can_be_written(issuer: Issuer) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        status, _ = asked(issuer, "gateway", method, "/v1/data/mqtt/authz", QUESTION)
        assert status == 405


def test_the_revoked_ask_nothing(issuer: Issuer) -> None:
    async def scenario() -> tuple[int, Any]:
        async with serving(issuer, **{HVAC: "lost"}) as port:
            path, context = "/v1/data/mqtt/authz/decision", context_of(issuer, "hvac-001")
            return await asyncio.to_thread(ask, port, context, "POST", path, {"input": QUESTION})

    assert asyncio.run(scenario())[0] == 403


def test_a_hostile_question_is_denied_by_the_policy_itself(issuer: Issuer) -> None:
    path = "/v1/data/mqtt/authz/decision"
    for change in ({"qos": 7}, {"retain": None}, {"more": 1}, {"topic": ["x"]}, {"qos": True}):
        body = {"input": QUESTION | change}
        status, said = asked(issuer, "gateway", "POST", path, body)
        assert status == 200
        assert said["result"]["allow"] is ("more" in change), change


def test_opa_python_client_can_be_pointed_at_it(issuer: Issuer) -> None:
    async def scenario() -> None:
        async with serving(issuer) as port:
            endpoint = Endpoint(host="127.0.0.1", port=port, secure=True)
            context = context_of(issuer, "hvac-001")
            async with OpaClient(endpoint, context, timeout_s=10.0) as client:
                assert isinstance(client, AsyncOpaClient)
                assert await client.check_health()
                assert await client.check_connection()
                for _ in range(2):
                    said = await client.query_rule(QUESTION, "mqtt.authz", "allow")
                    assert said["result"] is True

    asyncio.run(scenario())


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
def test_so_can_curl(issuer: Issuer) -> None:
    identity = issuer.identity("agent/hvac-001")

    async def scenario(folder: Path) -> bytes:
        (folder / "cert.pem").write_bytes(identity.svid.chain_pem)
        (folder / "key.pem").write_bytes(identity.svid.key_pem)
        roots = [ssl.DER_cert_to_PEM_cert(der) for der in identity.bundles[BUILDING].roots_der]
        (folder / "roots.pem").write_text("".join(roots))
        async with serving(issuer) as port:
            words = ["curl", "-s", "--insecure", "--cert", f"{folder}/cert.pem"]
            words += ["--key", f"{folder}/key.pem", "--cacert", f"{folder}/roots.pem"]
            words += ["--data", json.dumps({"input": QUESTION})]
            words += [f"https://127.0.0.1:{port}/v1/data/mqtt/authz/allow"]
            return await asyncio.to_thread(subprocess.check_output, words, timeout=20)

    with tempfile.TemporaryDirectory() as folder:
        assert json.loads(asyncio.run(scenario(Path(folder))))["result"] is True


def test_without_a_certificate_nobody_is_answered(issuer: Issuer) -> None:
    async def scenario() -> None:
        async with serving(issuer) as port:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            await asyncio.to_thread(ask, port, context, "GET", "/health")

    with pytest.RaisesGroup(OSError):
        asyncio.run(scenario())
