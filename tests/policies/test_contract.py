"""One contract for every decision point: embedded, cached, and an OPA server, real or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plantroom.policies.cached import CachedPoint
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.policies.opa_client import Endpoint
from plantroom.policies.remote import RemotePoint
from plantroom.wire import tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.policy import Decision, DecisionPoint, Question
from plantroom.wire.spiffe import SpiffeId
from tests.fakes import opa
from tests.fakes.issuer import BUILDING, Issuer
from tests.policies.facade import facade

Ask = Callable[..., Question]
HVAC = f"spiffe://{BUILDING}/agent/hvac-001"
ANN = "spiffe://smart-building.cloud/operator/ann"
OPA_ID = SpiffeId(BUILDING, "agent/opa")
PATIENT_S = 10.0


@dataclass
class Tried:
    """A point under test, and how it is told what has changed."""

    point: DecisionPoint
    update: Callable[..., None]
    ready: Callable[[], bool] = lambda: True

    async def told(self, **data: Any) -> None:
        """Tell it, and wait until it decides by that."""
        self.update(**data)
        async with asyncio.timeout(30):
            while not self.ready():  # noqa: ASYNC110 -- another object's state
                await asyncio.sleep(0.02)


@asynccontextmanager
async def embedded(_folder: Path) -> AsyncIterator[Tried]:
    point = EmbeddedPoint.load()
    try:
        yield Tried(point, point.update)
    finally:
        point.close()


@asynccontextmanager
async def cached(_folder: Path) -> AsyncIterator[Tried]:
    async with embedded(_folder) as inner:
        yield Tried(CachedPoint(inner.point, SystemClock()), inner.update)


@asynccontextmanager
async def remote(endpoint: Endpoint, context: Any = lambda: None) -> AsyncIterator[Tried]:
    async with RemotePoint(
        endpoint, clock=SystemClock(), context=context, timeout_s=PATIENT_S, poll_s=0.05
    ) as point:
        task = asyncio.create_task(point.run())
        try:
            yield Tried(point, point.update, lambda: point.status()["data"] == "delivered")
        finally:
            task.cancel()
            await asyncio.wait([task])


@asynccontextmanager
async def imitated(_folder: Path) -> AsyncIterator[Tried]:
    async with facade() as (_, port), remote(Endpoint.parse(f"http://127.0.0.1:{port}")) as made:
        yield made


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[Tried]:
    """OPA itself, behind mutual TLS with SVIDs at both ends."""
    issuer = Issuer(BUILDING)
    options = opa.certificate_files(folder, issuer.identity("agent/opa"))
    own = issuer.identity("agent/gateway")
    command = await asyncio.to_thread(opa.need)
    with opa.serving(command, folder, *options) as port:
        endpoint = Endpoint.parse(f"https://127.0.0.1:{port}")
        async with remote(endpoint, lambda: tls.client_context(own, server_ids=(OPA_ID,))) as made:
            yield made


@asynccontextmanager
async def real_cached(folder: Path) -> AsyncIterator[Tried]:
    async with real(folder) as inner:
        yield Tried(CachedPoint(inner.point, SystemClock()), inner.update, inner.ready)


POINTS = [
    embedded,
    cached,
    imitated,
    pytest.param(real, marks=[pytest.mark.real, pytest.mark.timeout(900)]),
    pytest.param(real_cached, marks=[pytest.mark.real, pytest.mark.timeout(900)]),
]
Scenario = Callable[[Tried], Awaitable[None]]


@pytest.fixture(params=POINTS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    def running(scenario: Scenario) -> None:
        async def whole() -> None:
            async with AsyncExitStack() as stack:
                await scenario(await stack.enter_async_context(request.param(tmp_path)))

        asyncio.run(whole())

    return running


def test_the_same_questions_get_the_same_answers(
    run: Callable[[Scenario], None], world: dict[str, Any], ask: Ask
) -> None:
    call = "v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann"
    expected = [
        (ask(), True, "ok"),
        (ask(topic="v1/building-1/telemetry/hvac-002"), False, "topic-not-granted"),
        (ask(retain=True), False, "retain-not-granted"),
        (ask(action="connect", topic="", qos=0), True, "ok"),
        (ask(action="connect", topic="", qos=0, client_id="x"), False, "client-id-not-own"),
        (ask(spiffe_id=ANN, action="publish", topic=call), True, "ok"),
        (ask(spiffe_id=ANN, action="call", topic=call, cert_serial=""), True, "ok"),
        (ask(spiffe_id=ANN, action="subscribe", topic="#"), True, "ok"),
        (ask(spiffe_id=HVAC + "x"), False, "unregistered"),
        (ask(action="subscribe", topic="a/#/b"), False, "bad-topic"),
        (ask(qos=3), False, "malformed"),
    ]

    async def scenario(tried: Tried) -> None:
        await tried.told(**world)
        for question, allow, reason in expected:
            decision = await tried.point.decide(question)
            assert (decision.allow, decision.reason) == (allow, reason), question
            assert decision.rule
            assert decision.revision
            assert 0 < decision.ttl_s <= 300

    run(scenario)


def test_nothing_is_allowed_before_registry_and_revocations_are_known(
    run: Callable[[Scenario], None], world: dict[str, Any], ask: Ask
) -> None:
    async def scenario(tried: Tried) -> None:
        early = tried.point.now(ask()) or await tried.point.decide(ask())
        assert (early.allow, early.reason) == (False, "no-revocation-data")
        await tried.told(**world)
        assert (await tried.point.decide(ask())).allow

    run(scenario)


def test_a_change_of_revocations_or_registry_is_told_and_decides(
    run: Callable[[Scenario], None], world: dict[str, Any], ask: Ask
) -> None:
    async def scenario(tried: Tried) -> None:
        told: list[int] = []
        tried.point.on_change(lambda: told.append(tried.point.generation))
        await tried.told(**world)
        assert (await tried.point.decide(ask())).allow
        before = len(told)
        revocation = {"generation": 2, "spiffe_ids": {HVAC: "lost"}, "serials": {}}
        await tried.told(revocation=revocation)
        assert len(told) > before
        assert told == sorted(told)
        assert (await tried.point.decide(ask())).reason == "revoked"
        await tried.told(revocation=world["revocation"] | {"generation": 3})
        assert (await tried.point.decide(ask())).allow
        await tried.told(registry={"devices": {}})
        assert (await tried.point.decide(ask())).reason == "unregistered"

    run(scenario)


def test_many_at_a_time_get_each_their_own_answer(
    run: Callable[[Scenario], None], world: dict[str, Any], ask: Ask
) -> None:
    async def scenario(tried: Tried) -> None:
        await tried.told(**world)
        questions = [ask(topic=f"v1/building-1/telemetry/hvac-{n:03}") for n in range(40)]
        answers = await asyncio.gather(*map(tried.point.decide, questions))
        assert [answer.allow for answer in answers] == [n == 1 for n in range(40)]
        assert len({answer.decision_id for answer in answers}) == 40

    run(scenario)


@pytest.mark.parametrize("name", sorted(Question.__dataclass_fields__))
def test_a_field_of_another_type_is_a_denial_and_no_exception(
    run: Callable[[Scenario], None], world: dict[str, Any], ask: Ask, name: str
) -> None:
    async def scenario(tried: Tried) -> None:
        await tried.told(**world)
        for junk in (None, 7.5, ("x",), "\ud800", float("nan")):
            decision: Decision = await tried.point.decide(ask(**{name: junk}))
            assert decision.allow is False, junk
            assert decision.reason

    run(scenario)
