"""Building → Campus → Corporate: three trust domains that learn each other's roots over HTTPS."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import bundle, federation
from plantroom.certs.authority import Authority
from plantroom.certs.authority_rotation import Rotation
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.enrolment_server import EnrolmentServer
from plantroom.certs.federation import Federation
from plantroom.certs.federation_settings import Endpoint
from plantroom.certs.registry import Registry
from plantroom.certs.registry_trust import TrustStore
from plantroom.wire.errors import IdentityError, PlantroomError, UnreachableError
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.waiting import eventually

BUILDING, CAMPUS, CORPORATE = "building-1.local", "campus.local", "corporate.local"


class Domain:
    """One trust domain: issuer, endpoint, and what it knows of others."""

    def __init__(self, name: str, folder: Path, clock: Any) -> None:
        self.name = name
        self.authority = Authority.open(folder / "authority", name, clock=clock)
        self.rotation = Rotation(folder / "authority", name, clock=clock)
        self.registry = Registry.open(folder / "registry.db", clock=clock)
        self.store = TrustStore(folder / "registry.db")
        self.keeper = BundleKeeper(self.store, {}, own=name)
        self.id = SpiffeId(name, "agent/front")
        self.source = EmbeddedSource(self.authority, self.id, ttl_s=3600)
        self.keeper.tell(self.source.trust)
        self.server = EnrolmentServer(self.authority, self.registry, self.source, clock=clock)
        self.alarms: list[str] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Domain"]:
        async with self.server:
            self.port = await self.server.start("127.0.0.1", 0)
            renewing = asyncio.create_task(self.source.run())
            try:
                yield self
            finally:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
                self.registry.close()
                self.store.close()

    def endpoint(self, of: str) -> Endpoint:
        """Say where others find the bundle of a trust domain: here."""
        url = f"https://127.0.0.1:{self.port}/bundle/{of}"
        return Endpoint(trust_domain=of, url=url, spiffe_id=self.id)

    @contextlib.asynccontextmanager
    async def following(self, *endpoints: Endpoint) -> AsyncIterator[Federation]:
        async def alarm(text: str) -> None:
            self.alarms.append(text)

        made = Federation(
            endpoints,
            self.keeper,
            identity=self.source.current,
            alarm=alarm,
            refresh_s=1,
            timeout_s=5,
            chance=lambda: 0.0,
        )
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def knows(self, other: "Domain") -> bool:
        return self.source.current().bundles.get(other.name) == other.authority.bundle()


@contextlib.asynccontextmanager
async def three(tmp_path: Path, clock: Any) -> AsyncIterator[tuple[Domain, Domain, Domain]]:
    async with contextlib.AsyncExitStack() as stack:
        building, campus, corporate = [
            await stack.enter_async_context(Domain(name, tmp_path / name, clock).serving())
            for name in (BUILDING, CAMPUS, CORPORATE)
        ]
        yield building, campus, corporate


def test_a_root_rotated_below_is_seen_at_the_top_without_a_restart(
    tmp_path: Path, clock: Any
) -> None:
    async def main() -> None:
        async with three(tmp_path, clock) as (building, campus, corporate):
            campus.keeper.adopt(building.authority.bundle())  # handed over once, by hand
            corporate.keeper.adopt(campus.authority.bundle())
            async with (
                campus.following(building.endpoint(BUILDING)),
                corporate.following(campus.endpoint(CAMPUS), campus.endpoint(BUILDING)),
            ):
                await eventually(lambda: corporate.knows(building) and corporate.knows(campus))
                for step in ("prepare", "activate", "retire"):
                    for domain in (building, campus):
                        force = {} if step == "prepare" else {"force": True}
                        getattr(domain.rotation, step)(**force)
                        domain.authority.refresh()
                    await eventually(lambda: corporate.knows(building) and corporate.knows(campus))
                assert len(corporate.source.current().bundles[BUILDING].roots_der) == 1
            assert not campus.alarms
            assert not corporate.alarms

    asyncio.run(main())


def reason_of(endpoint: Endpoint, domain: Domain) -> str:
    known = dataclasses.replace(domain.source.current(), bundles=domain.keeper.all())
    try:
        federation.fetch(endpoint, known, timeout_s=5)
    except IdentityError as error:
        return error.reason
    except UnreachableError as error:
        return error.what
    return "fetched"


def test_an_endpoint_has_to_be_who_it_should_be(tmp_path: Path, clock: Any) -> None:
    async def main() -> None:
        async with three(tmp_path, clock) as (building, campus, corporate):
            good = building.endpoint(BUILDING)

            async def reason(endpoint: Endpoint) -> str:
                return await asyncio.to_thread(reason_of, endpoint, corporate)

            assert await reason(good) == "no-bundle"
            corporate.keeper.adopt(building.authority.bundle())
            corporate.keeper.adopt(campus.authority.bundle())
            assert await reason(good) == "fetched"
            gateway = SpiffeId(BUILDING, "agent/gateway")
            assert await reason(dataclasses.replace(good, spiffe_id=gateway)) == "wrong-peer"
            elsewhere = dataclasses.replace(good, spiffe_id=campus.id)
            assert await reason(elsewhere) == "endpoint-unverified"
            assert await reason(dataclasses.replace(good, spiffe_id=None)) == "endpoint-unverified"
            missing = building.endpoint("nobody.local")
            assert await reason(missing) == "bundle endpoint says 404"
            gone = dataclasses.replace(good, url="https://127.0.0.1:9/bundle")
            assert (await reason(gone)).startswith("bundle endpoint does not answer")

    asyncio.run(main())


def test_an_older_bundle_is_refused_with_one_alarm(tmp_path: Path, clock: Any) -> None:
    async def main() -> None:
        async with three(tmp_path, clock) as (building, _, corporate):
            later = dataclasses.replace(building.authority.bundle(), sequence=9)
            corporate.keeper.adopt(later)
            async with corporate.following(building.endpoint(BUILDING)):
                await eventually(lambda: building.server._https.answers[200] >= 2)
            assert len(corporate.alarms) == 1
            assert "sequence 1, known is 9" in corporate.alarms[0]
            assert corporate.keeper.all()[BUILDING] == later

    asyncio.run(main())


def test_another_tools_file_is_read_and_what_it_lacks_is_named(
    tmp_path: Path, building: Authority, gateway: Any
) -> None:
    file = tmp_path / "bundle.json"
    endpoint = Endpoint(trust_domain=CAMPUS, url=file.as_uri(), spiffe_id=None)
    with pytest.raises(UnreachableError, match="no such bundle file"):
        federation.fetch(endpoint, gateway, timeout_s=1)
    file.write_bytes(bundle.to_json(building.bundle()))
    told = federation.fetch(endpoint, gateway, timeout_s=1)
    assert told == dataclasses.replace(building.bundle(), trust_domain=CAMPUS)
    file.write_bytes(bundle.all_to_json({BUILDING: building.bundle()}))
    with pytest.raises(IdentityError, match="no bundle of this trust domain"):
        federation.fetch(endpoint, gateway, timeout_s=1)
    file.write_bytes(b"x" * (bundle.BUNDLE_BYTES_MAX + 1))
    with pytest.raises(PlantroomError, match="larger"):
        federation.fetch(endpoint, gateway, timeout_s=1)
    assert isinstance(told, TrustBundle)
