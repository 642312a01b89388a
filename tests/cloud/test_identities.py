import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from plantroom.certs import admission
from plantroom.certs.authority import Authority
from plantroom.certs.bundle import all_to_json
from plantroom.certs.roles import SERVICES
from plantroom.certs.workload_api import WorkloadApiSource
from plantroom.cloud import identities
from plantroom.cloud.identities import FRONT, INGESTION
from plantroom.cloud.settings import CloudSettings
from plantroom.cloud.state_folder import StateFolder
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.policy import Question

SETTINGS = CloudSettings()
TRUST_DOMAIN = SETTINGS.agent.trust_domain


def test_new_registry_knows_the_clouds_own_services(tmp_path: Path) -> None:
    registry = identities.open_registry(SETTINGS, StateFolder(tmp_path))
    found = {entry.spiffe_id.name: entry for entry in registry.list()}
    assert set(found) == set(SERVICES)
    assert found[FRONT].dns == SETTINGS.identity.dns
    registry.close()


def test_entry_that_an_operator_deleted_stays_deleted(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    registry = identities.open_registry(SETTINGS, folder)
    registry.delete(identities.service_id(TRUST_DOMAIN, "ota"))
    registry.close()
    registry = identities.open_registry(SETTINGS, folder)
    assert "ota" not in {entry.spiffe_id.name for entry in registry.list()}
    registry.close()


def test_bundles_are_read_where_they_are_and_missed_only_where_named(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert identities.known_bundles(SETTINGS, folder) == {}
    building = Authority.open(tmp_path / "b", "building-1.smart.local", clock=SystemClock())
    bundle = building.bundle()
    folder.bundles.write_bytes(all_to_json({bundle.trust_domain: bundle}))
    assert identities.known_bundles(SETTINGS, folder)[bundle.trust_domain] == bundle
    named = replace(
        SETTINGS, identity=replace(SETTINGS.identity, bundle_file=str(tmp_path / "none"))
    )
    with pytest.raises(IdentityError, match="no such bundle file"):
        identities.known_bundles(named, folder)


def test_where_spire_is_the_issuer_every_service_has_its_svid_from_the_agent(
    tmp_path: Path,
) -> None:
    section = replace(SETTINGS.identity, provider="workload-api", workload_api="unix:/c.sock")
    spire = replace(SETTINGS, identity=section)
    folder = StateFolder(tmp_path)
    assert identities.open_authority(spire, folder, SystemClock()) is None
    assert not folder.authority.exists()
    for name in SERVICES:
        source = identities.source_of(name, spire, None, {})
        assert isinstance(source, WorkloadApiSource)
        assert source._spiffe_id == identities.service_id(TRUST_DOMAIN, name)


def test_only_the_front_serves_under_host_names(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, TRUST_DOMAIN, clock=SystemClock())
    for name in (FRONT, INGESTION):
        source = identities.source_of(name, SETTINGS, authority, {})
        assert str(source.current().svid.spiffe_id) == f"spiffe://{TRUST_DOMAIN}/agent/{name}"


def test_revocation_reaches_policy_within_a_poll(tmp_path: Path) -> None:
    async def main() -> None:
        registry = identities.open_registry(SETTINGS, StateFolder(tmp_path))
        point = EmbeddedPoint.load(cloud_trust_domain=TRUST_DOMAIN)
        ingestion = identities.service_id(TRUST_DOMAIN, INGESTION)
        question = Question(
            spiffe_id=str(ingestion), cert_serial="1", client_id=INGESTION, action="connect"
        )
        assert not point.now(question).allow
        watch = admission.RegistryWatch(registry, point, period_s=0.01)
        watch.load()
        assert point.now(question).allow
        running = asyncio.create_task(watch.run())
        changed = asyncio.Event()
        point.on_change(changed.set)
        registry.deny(ingestion, reason="test")
        async with asyncio.timeout(60):
            await changed.wait()
        assert not point.now(question).allow
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        registry.close()

    asyncio.run(main())
