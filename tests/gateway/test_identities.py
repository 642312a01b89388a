import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import admission
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.enrolled import write_bundles
from plantroom.certs.holder import IdentityHolder
from plantroom.certs.registry import Registry
from plantroom.certs.workload_api import WorkloadApiSource
from plantroom.gateway import identities
from plantroom.gateway.identities import Names
from plantroom.gateway.settings import GatewaySettings
from plantroom.gateway.state_folder import StateFolder
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire import settings, tls
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError, IdentityError
from plantroom.wire.identity import Principal
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
        assert isinstance(building, EmbeddedSource)
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


def workload_settings(**values: str) -> GatewaySettings:
    section = replace(GatewaySettings().identity, provider="workload-api", **values)  # type: ignore[arg-type]
    return replace(GatewaySettings(), identity=section)


def test_where_spire_is_the_issuer_both_identities_come_from_its_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = workload_settings(workload_api="unix:/b.sock", cloud_workload_api="unix:/c.sock")
    folder, clock, names = StateFolder(tmp_path / "gw"), SystemClock(), Names.of(loaded)
    assert identities.open_authority(loaded, folder, clock) is None
    assert not folder.authority.exists()
    with contextlib.closing(Registry.open(tmp_path / "registry.db")) as registry:
        cloud = identities.cloud_source(loaded, folder, names, clock)
        building = identities.building_source(loaded, folder, (None, registry), cloud, names)
        assert isinstance(cloud, WorkloadApiSource)
        assert isinstance(building, WorkloadApiSource)
        assert (building._path, cloud._path) == (Path("/b.sock"), Path("/c.sock"))
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", "unix:/from-variable.sock")
        other = workload_settings(cloud_workload_api="unix:/c.sock")
        building = identities.building_source(other, folder, (None, registry), cloud, names)
        assert isinstance(building, WorkloadApiSource)
        assert building._path == Path("/from-variable.sock")
        with pytest.raises(ConfigError, match="not unix:/absolute/path"):
            identities.cloud_source(workload_settings(), folder, names, clock)


def test_whom_spire_vouches_for_is_registered_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = SpiffeId(BUILDING, "agent/new-1")
    principal = Principal(spiffe_id=sensor, serial="00", not_after_s=0)
    monkeypatch.setattr(admission, "admit", lambda *_: lambda _connection: principal)
    with contextlib.closing(Registry.open(tmp_path / "registry.db")) as registry:
        source = IdentityHolder()
        identities.admit(GatewaySettings(), registry, source, None)(None)
        assert registry.list() == ()
        identities.admit(workload_settings(), registry, source, None)(None)
        assert [entry.spiffe_id for entry in registry.list()] == [sensor]


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
