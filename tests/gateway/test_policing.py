"""The gateway's policy as a process has it: with its registry, and the port for sensors."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs.registry import Registry
from plantroom.gateway import policing
from plantroom.gateway.settings import AgentSection, GatewayPolicySection, GatewaySettings
from plantroom.gateway.state_folder import StateFolder
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError, IdentityError
from plantroom.wire.identity import Identity
from plantroom.wire.link import Message
from plantroom.wire.policy import Question
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import BUILDING, Issuer

HVAC = SpiffeId(BUILDING, "agent/hvac-001")
QUESTION = Question(
    spiffe_id=str(HVAC), cert_serial="0A", client_id="hvac-001", action="connect", qos=0
)


class Still:
    """An identity source that has one identity."""

    def current(self) -> Identity:
        return Issuer(BUILDING).identity("agent/gateway")

    async def changed(self, revision: int) -> Identity:
        raise IdentityError(f"never after {revision}", reason="test")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- another object's state
            await asyncio.sleep(0.01)


def settings(tmp_path: Path, **policy: Any) -> GatewaySettings:
    return GatewaySettings(
        agent=AgentSection(state=str(tmp_path)),
        policy=GatewayPolicySection(poll_s=0.1, **policy),
    )


def test_the_registry_is_followed_and_a_broken_bundle_is_an_alarm(tmp_path: Path) -> None:
    published: list[Message] = []

    async def publish(message: Message) -> int:
        published.append(message)
        return 0

    async def scenario(registry: Registry) -> None:
        made = settings(tmp_path)
        folder = StateFolder(tmp_path)
        async with policing.opened(made, folder, registry, Still(), clock=SystemClock()) as policy:
            task = asyncio.create_task(policy.run(publish))

            def allowed() -> bool:
                decision = policy.decisions.now(QUESTION)
                return decision is not None and decision.allow

            assert not allowed()
            registry.create(HVAC)
            await until(allowed)
            registry.deny(HVAC, reason="lost")
            await until(lambda: not allowed())
            assert policy.status()["registry"] == registry.counter()
            assert policy.status()["provider"] == "embedded"
            assert any(one.name.startswith("plantroom_policy_") for one in policy.metrics())
            task.cancel()
            await asyncio.wait([task])

    registry = Registry.open(tmp_path / "registry.db")
    try:
        asyncio.run(scenario(registry))
    finally:
        registry.close()
    assert published == []


def test_a_policy_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async def scenario(registry: Registry) -> None:
        async with asyncio.timeout(60):
            server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with server:
                made = settings(tmp_path, port=port)
                folder = StateFolder(tmp_path)
                async with policing.opened(made, folder, registry, Still(), clock=SystemClock()):
                    raise AssertionError

    registry = Registry.open(tmp_path / "registry.db")
    try:
        with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match=r"policy\.port")):
            asyncio.run(scenario(registry))
    finally:
        registry.close()
