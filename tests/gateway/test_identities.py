import asyncio
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import admission
from plantroom.certs.authority import Authority
from plantroom.certs.enrolled import write_bundles
from plantroom.certs.registry import Registry
from plantroom.gateway import identities
from plantroom.gateway.identities import Names
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.state_folder import StateFolder
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire import settings, tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.policy import Question
from plantroom.wire.spiffe import SpiffeId

BUILDING, CLOUD = "building-1.smart.local", "smart-building.cloud"


def test_the_names_are_those_of_the_contract() -> None:
    names = Names.of(GatewaySettings())
    assert str(names.building) == f"spiffe://{BUILDING}/agent/gateway"
    assert str(names.cloud) == f"spiffe://{CLOUD}/gateway/building-1"
    assert str(names.front) == f"spiffe://{CLOUD}/agent/front"


def test_before_it_is_enrolled_it_serves_and_trusts_the_bundles_it_was_given(
    tmp_path: Path, lab: Any
) -> None:
    async def scenario() -> None:
        loaded = settings.load(GatewaySettings, None, {})
        folder, clock = StateFolder(tmp_path / "gw"), SystemClock()
        front = Authority.open(tmp_path / "cloud", CLOUD, clock=clock)
        write_bundles(folder.uplink, {CLOUD: front.bundle()})
        authority = Authority.open(folder.authority, BUILDING, clock=clock)
        registry = Registry.open(folder.registry)
        names = Names.of(loaded)
        cloud = identities.cloud_source(loaded, folder, names, clock)
        with pytest.raises(IdentityError):
            cloud.current()
        building = identities.building_source(loaded, folder, (authority, registry), cloud, names)
        current = building.current()
        assert set(current.bundles) == {BUILDING, CLOUD}
        assert registry.show(names.building).role == "gateway"

        context = tls.RotatingServerContext(current)
        first = context._current
        stage = asyncio.create_task(admission.rotate(building, context))
        await asyncio.sleep(0)
        building.renew()
        await lab.until(lambda: context._current is not first)
        stage.cancel()
        await asyncio.gather(stage, return_exceptions=True)
        registry.close()

    asyncio.run(scenario())


def test_policy_follows_the_registry_file(tmp_path: Path, lab: Any) -> None:
    sensor = SpiffeId(BUILDING, "agent/hvac-001")
    question = Question(
        spiffe_id=str(sensor), cert_serial="01", client_id="hvac-001", action="connect"
    )

    async def scenario() -> None:
        registry, other = (Registry.open(tmp_path / "registry.db") for _ in range(2))
        point = EmbeddedPoint.load()
        watch = admission.RegistryWatch(registry, point, period_s=0.01)
        watch.load()
        assert not point.now(question).allow
        stage = asyncio.create_task(watch.run())

        async def becomes(allow: Any) -> None:
            await lab.until(lambda: point.now(question).allow is allow)

        other.create(sensor)
        await becomes(True)
        other.deny(sensor, reason="stolen")
        await becomes(False)
        other.restore(sensor)
        await becomes(True)
        stage.cancel()
        await asyncio.gather(stage, return_exceptions=True)
        registry.close()
        other.close()

    asyncio.run(scenario())
