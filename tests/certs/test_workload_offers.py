"""What the issuer gives to whom: entries, denials, renewal, roots."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.registry import Registry
from plantroom.certs.workload_messages import Offered, identity_of, read_bundles, read_svids
from plantroom.certs.workload_offers import Offers
from plantroom.wire.identity import TrustBundle
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.unix_socket import Peer
from tests.certs.conftest import SteppedClock

ME = Peer(pid=0, uid=os.geteuid(), gid=os.getegid())
MINE = (f"unix:uid:{ME.uid}",)


@pytest.fixture
def scenario(
    building: Authority, cloud: Authority, registry: Registry, gateway_id: SpiffeId
) -> Callable[..., None]:
    def run(play: Callable[[Offers, EmbeddedSource], Awaitable[None]]) -> None:
        async def main() -> None:
            bundles = {cloud.trust_domain: cloud.bundle()}
            source = EmbeddedSource(building, gateway_id, bundles=bundles, clock=building._clock)
            await play(Offers(building, registry, source, clock=building._clock), source)

        asyncio.run(main())

    return run


async def offered(offers: Offers) -> Offered | None:
    await offers.look()
    message = await offers.svids(ME)
    return None if message is None else read_svids(message)


def test_every_entry_that_matches_is_offered_with_its_hint_and_every_bundle(  # noqa: PLR0913, PLR0917 -- fixtures
    scenario: Callable[..., None],
    building: Authority,
    cloud: Authority,
    registry: Registry,
    sensor_id: SpiffeId,
    gateway_id: SpiffeId,
) -> None:
    async def play(offers: Offers, _source: EmbeddedSource) -> None:
        assert await offered(offers) is None
        assert await offers.bundles(ME) is None
        registry.create(sensor_id, selectors=MINE, hint="room")
        registry.create(gateway_id, selectors=MINE, dns=("gw.local",))
        registry.create(SpiffeId(building.trust_domain, "agent/x"), selectors=("unix:uid:4711",))
        registry.create(SpiffeId(building.trust_domain, "agent/y"))
        registry.create(SpiffeId(cloud.trust_domain, "operator/z"), selectors=MINE)
        found = await offered(offers)
        assert found is not None
        assert found.names == (str(gateway_id), str(sensor_id))
        assert [one.hint for one in found.svids] == ["", "room"]
        assert set(found.federated) == {cloud.trust_domain}
        svid, _ = identity_of(found, sensor_id)
        issued = registry.last_issued(sensor_id)
        assert issued is not None
        assert issued.serial == svid.serial
        bundles = await offers.bundles(ME)
        assert bundles is not None
        assert set(read_bundles(bundles)) == {building.trust_domain, cloud.trust_domain}

    scenario(play)


def test_an_svid_is_kept_until_half_life_and_when_its_entry_changes(
    scenario: Callable[..., None], registry: Registry, sensor_id: SpiffeId, clock: SteppedClock
) -> None:
    async def play(offers: Offers, _source: EmbeddedSource) -> None:
        registry.create(sensor_id, selectors=MINE, ttl_s=100)
        first = await offered(offers)
        news = offers.news
        assert await offered(offers) == first
        assert not news.is_set()
        clock.offset_s = 70
        second = await offered(offers)
        assert news.is_set()
        assert second != first
        registry.create(sensor_id, selectors=MINE, ttl_s=200)
        assert await offered(offers) != second

    scenario(play)


def test_who_is_denied_gets_nothing_until_restored(
    scenario: Callable[..., None], registry: Registry, sensor_id: SpiffeId
) -> None:
    async def play(offers: Offers, _source: EmbeddedSource) -> None:
        registry.create(sensor_id, selectors=MINE)
        assert await offered(offers) is not None
        registry.deny(sensor_id, reason="operator")
        assert await offered(offers) is None
        registry.restore(sensor_id)
        assert await offered(offers) is not None
        registry.delete(sensor_id)
        assert await offered(offers) is None

    scenario(play)


def test_a_newer_bundle_of_another_domain_is_news(
    scenario: Callable[..., None], registry: Registry, sensor_id: SpiffeId, building: Authority
) -> None:
    async def play(offers: Offers, source: EmbeddedSource) -> None:
        registry.create(sensor_id, selectors=MINE)
        await offered(offers)
        news = offers.news
        source.set_bundle(
            TrustBundle(trust_domain="other.site", roots_der=building.bundle().roots_der)
        )
        found = await offered(offers)
        assert news.is_set()
        assert found is not None
        assert "other.site" in found.federated

    scenario(play)
