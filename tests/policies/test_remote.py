"""The remote point against a server with faults; the real one is in test_contract."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plantroom.policies.opa_client import Endpoint
from plantroom.policies.remote import RemotePoint
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError
from plantroom.wire.policy import Question
from tests.policies.facade import FAULTS, Facade, facade

Ask = Callable[..., Question]
HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
PATIENT_S = 20.0  # where an answer is awaited that has to come, on a busy machine
HASTY_S = 0.25


class JumpingClock:
    """This machine's clocks, stopped: a test moves them, and nothing else does."""

    def __init__(self) -> None:
        self.ahead_us = 0
        self._wall_us = SystemClock().wall_us()
        self._monotonic_us = SystemClock().monotonic_us()

    def wall_us(self) -> int:
        return self._wall_us + self.ahead_us

    def monotonic_us(self) -> int:
        return self._monotonic_us + self.ahead_us


@asynccontextmanager
async def asking(
    port: int, *, timeout_s: float = PATIENT_S, clock: JumpingClock | None = None, **more: Any
) -> AsyncIterator[RemotePoint]:
    endpoint = Endpoint.parse(f"http://127.0.0.1:{port}")
    async with RemotePoint(
        endpoint, clock=clock or JumpingClock(), timeout_s=timeout_s, poll_s=0.05, **more
    ) as point:
        task = asyncio.create_task(point.run())
        try:
            yield point
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- another object's state
            await asyncio.sleep(0.01)


def test_data_are_delivered_and_a_change_is_told(world: dict[str, Any], ask: Ask) -> None:
    async def scenario() -> None:
        async with facade() as (server, port), asking(port) as point:
            told: list[int] = []
            point.on_change(lambda: told.append(point.generation))
            assert point.now(ask()) is not None, "without revocation data nobody has to be asked"
            point.update(**world)
            assert (await point.decide(ask())).allow
            assert server.data["system"]["cloud_trust_domain"] == "smart-building.cloud"
            deliveries = server.deliveries
            point.update(**world)
            await asyncio.sleep(0.2)
            assert server.deliveries == deliveries, "the same again is no change"
            before = len(told)
            point.update(revocation={"generation": 2, "spiffe_ids": {HVAC: "x"}, "serials": {}})
            assert len(told) == before + 1
            decision = point.now(ask())
            assert decision is not None
            assert (decision.reason, decision.source) == ("revoked", "remote")
            await until(lambda: server.data["revocation"]["generation"] == 2)

    asyncio.run(scenario())


def test_a_server_that_was_restarted_gets_everything_again(world: dict[str, Any], ask: Ask) -> None:
    async def scenario() -> None:
        async with facade() as (server, port), asking(port) as point:
            point.update(**world)
            assert (await point.decide(ask())).allow
            server.data.clear()
            await until(lambda: {"registry", "revocation"} <= server.data.keys())
            assert (await point.decide(ask())).allow

    asyncio.run(scenario())


def test_a_server_that_has_the_registry_of_another_is_not_used(
    world: dict[str, Any], ask: Ask
) -> None:
    async def scenario() -> None:
        async with facade() as (server, port), asking(port, label="first") as point:
            point.update(**world)
            assert (await point.decide(ask())).allow
            async with asking(port, label="second", timeout_s=HASTY_S) as other:
                other.update(**world)
                await until(lambda: "the registry of first" in str(other.status()["trouble"]))
                assert (await other.decide(ask())).reason == "policy-data-pending"
            assert (await point.decide(ask())).allow
            generation = point.generation
            async with asking(port, label="first") as again:  # a restart of the same process
                again.update(**world)
                assert (await again.decide(ask())).allow
            await until(lambda: point.generation > generation)
            assert server.data["system"]["plantroom"]["marker"].startswith("first ")

    asyncio.run(scenario())


def test_a_new_bundle_at_the_server_is_a_change(world: dict[str, Any], ask: Ask) -> None:
    async def scenario() -> None:
        async with facade() as (server, port), asking(port) as point:
            point.update(**world)
            assert (await point.decide(ask())).allow
            generation = point.generation
            server.bundle_revision = "2"
            await until(lambda: point.generation > generation)
            assert point.revision == "2"

    asyncio.run(scenario())


def test_a_server_that_takes_no_data_decides_nothing(world: dict[str, Any], ask: Ask) -> None:
    async def scenario() -> None:
        async with facade() as (server, port), asking(port, timeout_s=HASTY_S) as point:
            server.refuses_data = True
            point.update(**world)
            decision = await point.decide(ask())
            assert (decision.allow, decision.reason) == (False, "policy-data-pending")
            assert server.asked == 0
            assert point.status()["data"] == "pending"
            server.refuses_data = False
            await until(lambda: point.status()["data"] == "delivered")

    asyncio.run(scenario())


def test_an_entry_that_cannot_be_delivered_for_long_stops_every_answer(
    world: dict[str, Any], ask: Ask
) -> None:
    async def scenario() -> None:
        clock = JumpingClock()
        async with facade() as (server, port), asking(port, clock=clock) as point:
            point.update(**world)
            assert (await point.decide(ask())).allow
            server.refuses_data = True
            point.update(registry={"devices": {}})
            assert (await point.decide(ask())).allow, "for a moment the old registry holds"
            clock.ahead_us += 6_000_000
            assert (await point.decide(ask())).reason == "policy-data-pending"

    asyncio.run(scenario())


def test_without_push_the_servers_own_data_decide(world: dict[str, Any], ask: Ask) -> None:
    async def scenario() -> None:
        async with facade() as (server, port), asking(port, push=False) as point:
            assert (await point.decide(ask())).reason == "no-revocation-data"
            await until(lambda: point.generation == 1)
            server.data |= world
            await until(lambda: point.generation > 1)
            assert (await point.decide(ask())).allow
            generation = point.generation
            server.data["revocation"] = world["revocation"] | {"generation": 2}
            await until(lambda: point.generation > generation)
            assert server.deliveries == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_denial_within_the_deadline_that_is_not_kept(
    world: dict[str, Any], ask: Ask, fault: str
) -> None:
    async def scenario(server: Facade, port: int) -> None:
        async with asking(port, timeout_s=HASTY_S) as point:
            point.update(**world)
            await until(lambda: point.status()["data"] == "delivered")
            server.fault = fault
            began_s = time.monotonic()
            decision = await point.decide(ask())
            took_s = time.monotonic() - began_s
            assert (decision.allow, decision.ttl_s) == (False, 0.0)
            assert decision.reason
            assert decision.decision_id
            assert took_s < HASTY_S + 2.0, "a busy machine may be late, not wait for the server"
            server.fault = ""

    async def whole() -> None:
        async with facade() as (server, port):
            await scenario(server, port)

    asyncio.run(whole())


def test_the_breaker_opens_and_closes(world: dict[str, Any], ask: Ask) -> None:
    async def scenario() -> None:
        clock = JumpingClock()
        async with facade() as (server, port), asking(port, clock=clock) as point:
            point.update(**world)
            assert (await point.decide(ask())).allow
            server.fault = "error"
            reasons = [(await point.decide(ask())).reason for _ in range(6)]
            assert reasons == ["policy-error"] * 5 + ["policy-breaker-open"]
            asked = server.asked
            await point.decide(ask())
            assert server.asked == asked, "an open breaker asks nobody"
            assert point.status()["breaker"] == "open"
            server.fault = ""
            clock.ahead_us += 600_000
            assert (await point.decide(ask())).allow
            assert point.status()["breaker"] == "closed"
            names = {metric.name: metric.value for metric in point.metrics()}
            assert names["plantroom_policy_server_breaker_open"] == 0
            assert names["plantroom_policy_server_failures_total"] >= 1

    asyncio.run(scenario())


def test_nobody_at_the_other_end_is_a_denial(world: dict[str, Any], ask: Ask) -> None:
    async def scenario() -> None:
        async with facade() as (_, port):
            pass
        async with asking(port, timeout_s=HASTY_S) as point:
            point.update(**world)
            assert not (await point.decide(ask())).allow
            assert point.status()["trouble"]
            with pytest.raises(ConfigError, match="OPA server"):
                await point.query("mqtt/authz/allow", {})

    asyncio.run(scenario())


def test_data_of_another_form_are_refused(ask: Ask) -> None:
    async def scenario() -> None:
        async with facade() as (_, port), asking(port) as point:
            with pytest.raises(ConfigError, match="policy data"):
                point.update(registry={"devices": []})
            assert not (await point.decide(ask())).allow

    asyncio.run(scenario())


def test_any_rule_can_be_asked_for() -> None:
    async def scenario() -> None:
        async with facade() as (_, port), asking(port) as point:
            assert await point.query("mqtt/authz/well_formed", {}) == [False]
            assert await point.query("mqtt/authz/nothing", {}) == []

    asyncio.run(scenario())
