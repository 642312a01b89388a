import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import admission
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource, issue_svid
from plantroom.certs.registry import Registry
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError, StorageError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.tls import RotatingServerContext
from tests.fakes.handshakes import Caller

DOMAIN = "building-1.smart.local"
SENSOR = SpiffeId(DOMAIN, "agent/hvac-001")


class Policy:
    """Keeps what it was told, and says when."""

    revision = "r1"

    def __init__(self) -> None:
        self.registry: Mapping[str, Any] = {}
        self.told = asyncio.Event()

    def update(
        self,
        *,
        registry: Mapping[str, Any] | None = None,
        revocation: Mapping[str, Any] | None = None,
    ) -> None:
        assert revocation is not None
        self.registry = registry or {}
        self.told.set()


def source(folder: Path) -> EmbeddedSource:
    authority = Authority.open(folder, DOMAIN, clock=SystemClock())
    return EmbeddedSource(
        authority, SpiffeId(DOMAIN, "agent/gateway"), ttl_s=3600, dns=(), ips=(), bundles={}
    )


def test_policy_hears_of_what_another_program_writes(tmp_path: Path) -> None:
    async def main() -> None:
        registry, other = (Registry.open(tmp_path / "registry.db") for _ in range(2))
        policy = Policy()
        watch = admission.RegistryWatch(registry, policy, period_s=0.01)
        watch.load()
        policy.told.clear()
        before = watch.status()["registry"]
        running = asyncio.create_task(watch.run())
        other.create(SENSOR)
        async with asyncio.timeout(10):
            await policy.told.wait()
        assert str(SENSOR) in policy.registry["devices"]
        assert watch.status()["registry"] != before
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        other.close()
        registry.close()

    asyncio.run(main())


def test_registry_that_cannot_be_read_leaves_policy_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        registry, policy = Registry.open(tmp_path / "registry.db"), Policy()
        watch = admission.RegistryWatch(registry, policy, period_s=0.01)
        watch.load()
        policy.told.clear()
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def fails() -> int:
            loop.call_soon_threadsafe(failed.set)
            raise StorageError("disk is gone")

        monkeypatch.setattr(registry, "counter", fails)
        running = asyncio.create_task(watch.run())
        async with asyncio.timeout(10):
            while "disk is gone" not in caplog.text:
                failed.clear()
                await failed.wait()
        assert not policy.told.is_set()
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        registry.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())


def test_identity_that_cannot_be_served_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        identity = source(tmp_path)
        context = RotatingServerContext(identity.current())
        tried = asyncio.Event()

        def refuses(_identity: Identity) -> None:
            tried.set()
            raise IdentityError("no key", reason="bad-svid")

        monkeypatch.setattr(context, "rotate", refuses)
        running = asyncio.create_task(admission.rotate(identity, context))
        await asyncio.sleep(0)
        identity.renew()
        async with asyncio.timeout(10):
            await tried.wait()
        await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "the old one stays" in caplog.text


def test_nobody_of_another_domain_is_let_in_before_its_list_of_the_revoked_has_come(
    tmp_path: Path, cloud: Authority
) -> None:
    own, known = source(tmp_path / "gateway"), set[str]()
    own.set_bundle(cloud.bundle())
    admit = admission.admit(own, lambda: known)
    operator = SpiffeId(cloud.trust_domain, "operator/ann")
    foreign = Caller(issue_svid(cloud, operator, ttl_s=60))
    ours = Caller(issue_svid(own._authority, SENSOR, ttl_s=60))
    assert foreign.calls(own.current(), admit) == "no-denylist"
    assert ours.calls(own.current(), admit) == SENSOR
    known.add(cloud.trust_domain)
    assert foreign.calls(own.current(), admit) == operator
