"""The device's own check of its callers, with a clock that is moved by hand."""

import asyncio
import json
from typing import Any

import pytest

from plantroom.certs.https import HttpsServer, Request, RequestRefusedError, Response
from plantroom.device import policy
from plantroom.device.policy import CallPolicy, Verdict
from plantroom.wire import tls
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import BUILDING, Issuer

TOPIC = "v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann"
ANN = "cloud:operator:ann"
ALLOWED: dict[str, Any] = {"result": {"allow": True, "reason": "ok", "ttl_s": 300}}
DENIED: dict[str, Any] = {"result": {"allow": False, "reason": "revoked", "ttl_s": 300}}


class Rig:
    """A policy whose gateway says what the test says."""

    def __init__(self, ttl_s_max: float = 300.0) -> None:
        self.now_s = 1000.0
        self.answer: Any = ALLOWED
        self.asked: list[dict[str, Any]] = []
        self.policy = CallPolicy(
            self._ask,
            trust_domain=BUILDING,
            cloud_trust_domain="smart-building.cloud",
            ttl_s_max=ttl_s_max,
            clock_s=lambda: self.now_s,
        )

    def _ask(self, question: dict[str, Any]) -> Any:
        self.asked.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def refusal(self, caller: str = ANN, topic: str = TOPIC) -> str:
        return self.policy.refusal(topic, caller)


def test_the_question_names_the_caller_as_policy_knows_it() -> None:
    rig = Rig()
    assert rig.refusal() == ""
    assert rig.asked == [
        {
            "spiffe_id": "spiffe://smart-building.cloud/operator/ann",
            "cert_serial": "",
            "client_id": "",
            "action": "call",
            "topic": TOPIC,
            "qos": 1,
            "retain": False,
        }
    ]
    rig.refusal("hvac-002")
    rig.refusal("cloud:ota")
    assert [question["spiffe_id"] for question in rig.asked[1:]] == [
        f"spiffe://{BUILDING}/agent/hvac-002",
        "spiffe://smart-building.cloud/agent/ota",
    ]


def test_an_answer_is_kept_for_its_time_and_no_longer_than_the_ceiling() -> None:
    rig = Rig()
    rig.answer = {"result": {"allow": True, "reason": "ok", "ttl_s": 1e9}}
    rig.refusal()
    rig.now_s += 299.9
    rig.refusal()
    assert len(rig.asked) == 1
    rig.now_s += 0.1
    rig.refusal()
    assert len(rig.asked) == 2


def test_a_denial_is_kept_for_a_short_time() -> None:
    rig = Rig()
    rig.answer = DENIED
    assert rig.refusal() == "revoked"
    rig.answer = ALLOWED
    rig.now_s += 14.9
    assert rig.refusal() == "revoked"
    rig.now_s += 0.1
    assert rig.refusal() == ""
    assert rig.policy.refused_total == 2


def test_a_setting_may_shorten_but_not_prolong() -> None:
    rig = Rig(ttl_s_max=10.0)
    rig.refusal()
    rig.now_s += 10.0
    rig.refusal()
    assert len(rig.asked) == 2


def test_a_miss_while_nobody_answers_is_refused_and_asked_again_later() -> None:
    rig = Rig()
    rig.answer = OSError("no route")
    assert rig.refusal() == "policy-unreachable"
    rig.answer = ALLOWED
    assert rig.refusal() == "policy-unreachable"
    assert len(rig.asked) == 1, "nobody waits again for a gateway that has just not answered"
    rig.now_s += policy.HOLD_OFF_S
    assert rig.refusal() == ""


def test_what_is_kept_counts_while_nobody_answers() -> None:
    rig = Rig()
    rig.refusal()
    rig.answer = OSError("no route")
    rig.refusal("hvac-002")
    assert rig.refusal() == ""


def test_the_gateway_is_not_asked_about_itself() -> None:
    rig = Rig()
    rig.answer = DENIED
    assert rig.refusal("gateway", "v1/building-1/call/hvac-001/resend/gateway") == ""
    assert rig.asked == []


def test_a_caller_that_stands_for_nobody_is_refused() -> None:
    rig = Rig()
    assert rig.refusal("cloud:") == "bad-identity"
    assert rig.asked == []


def test_the_cache_is_bounded() -> None:
    rig = Rig()
    for number in range(policy.ENTRIES_MAX + 50):
        rig.refusal(f"hvac-{number}")
    assert len(rig.policy._kept) == policy.ENTRIES_MAX


@pytest.mark.parametrize(
    "answer",
    [
        *(None, [], "allow", {}, {"result": True}, {"result": {}}, {"result": {"allow": True}}),
        {"result": {"allow": "true", "reason": "ok", "ttl_s": 1}},
        {"result": {"allow": True, "reason": "revoked", "ttl_s": 1}},
        {"result": {"allow": True, "reason": "ok", "ttl_s": "1"}},
        {"result": {"allow": True, "reason": "ok", "ttl_s": True}},
        {"result": {"allow": False, "reason": "ok", "ttl_s": 1}},
        {"result": {"allow": False, "reason": "", "ttl_s": 1}},
    ],
)
def test_what_is_not_a_whole_answer_is_a_refusal(answer: Any) -> None:
    verdict = policy.read(answer)
    assert verdict.refusal
    assert policy.read(ALLOWED) == Verdict(refusal="", ttl_s=300.0)


def test_a_life_that_is_no_number_is_none() -> None:
    for ttl_s in (-1, float("nan")):
        answer = {"result": {"allow": True, "reason": "ok", "ttl_s": ttl_s}}
        assert policy.read(answer) == Verdict(refusal="", ttl_s=0.0)


def asked_over_tls(handler: Any, server: str = "agent/gateway") -> Any:
    issuer = Issuer(BUILDING)
    gateway = SpiffeId(BUILDING, "agent/gateway")
    own = issuer.identity("agent/hvac-001")

    async def scenario() -> Any:
        context = tls.server_context(issuer.identity(server))
        async with HttpsServer(handler, context=lambda: context) as https:
            port = await https.start("127.0.0.1", 0)

            def client(identity: Identity) -> Any:
                return tls.client_context(identity, server_ids=(gateway,))

            ask = policy.ask_gateway(("127.0.0.1", port), lambda: own, client, timeout_s=10.0)
            try:
                return await asyncio.to_thread(ask, {"action": "call"})
            except (OSError, ValueError, IdentityError) as error:
                return error

    return asyncio.run(scenario())


def test_the_gateway_is_asked_over_mutual_tls() -> None:
    async def answer(request: Request) -> Response:
        assert (request.method, request.path) == ("POST", policy.PATH)
        assert json.loads(request.body) == {"input": {"action": "call"}}
        assert str(tls.peer_id(request.connection)).endswith("agent/hvac-001")
        return Response(status=200, body=json.dumps(ALLOWED).encode())

    assert asked_over_tls(answer) == ALLOWED


def test_a_refusal_too_much_and_nonsense_are_errors() -> None:
    async def refuse(_request: Request) -> Response:
        raise RequestRefusedError(403, "unauthorized")

    async def too_much(_request: Request) -> Response:
        return Response(status=200, body=b"[" * (policy.ANSWER_BYTES_MAX + 1))

    async def nonsense(_request: Request) -> Response:
        return Response(status=200, body=b"allow")

    for handler in (refuse, too_much, nonsense):
        assert isinstance(asked_over_tls(handler), ValueError)


def test_another_server_is_not_asked() -> None:
    async def answer(_request: Request) -> Response:
        raise AssertionError

    refused = asked_over_tls(answer, "agent/hvac-002")
    assert isinstance(refused, IdentityError)
    assert "server is" in str(refused)


def test_without_an_identity_nobody_is_asked() -> None:
    ask = policy.ask_gateway(("127.0.0.1", 1), lambda: None, lambda _: None, timeout_s=1)  # type: ignore[arg-type, return-value]
    with pytest.raises(OSError, match="no identity"):
        ask({})
