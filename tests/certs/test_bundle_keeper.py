import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

from plantroom.certs.authority import Authority
from plantroom.certs.bundle_keeper import BundleKeeper
from plantroom.certs.registry import Registry
from plantroom.certs.registry_trust import TrustStore
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, TrustBundle

BUILDING, CLOUD = "building-1.smart.local", "smart-building.cloud"


@pytest.fixture
def store(registry: Registry) -> Iterator[TrustStore]:
    with contextlib.closing(TrustStore(registry.path)) as opened:
        yield opened


def test_what_was_given_is_trusted_until_something_newer_is_told(
    store: TrustStore, building: Authority, cloud: Authority
) -> None:
    given = {CLOUD: cloud.bundle(), BUILDING: building.bundle()}
    keeper = BundleKeeper(store, given, own=BUILDING)
    heard: list[TrustBundle] = []
    keeper.tell(heard.append)
    assert heard == [cloud.bundle()]
    newer = dataclasses.replace(cloud.bundle(), sequence=9)
    assert keeper.adopt(newer)
    assert not keeper.adopt(newer)
    assert heard[1:] == [newer]
    assert BundleKeeper(store, given, own=BUILDING).all() == {CLOUD: newer}


def test_an_older_bundle_and_one_of_ours_are_refused(
    store: TrustStore, building: Authority, cloud: Authority
) -> None:
    keeper = BundleKeeper(
        store, {CLOUD: dataclasses.replace(cloud.bundle(), sequence=9)}, own=BUILDING
    )
    for told, reason in ((cloud.bundle(), "bundle-sequence"), (building.bundle(), "own-bundle")):
        with pytest.raises(IdentityError) as caught:
            keeper.adopt(told)
        assert caught.value.reason == reason


def test_what_a_command_sets_is_taken_in(store: TrustStore, cloud: Authority) -> None:
    keeper = BundleKeeper(store, {}, own=BUILDING)
    heard: list[TrustBundle] = []
    keeper.tell(heard.append)
    store.adopt_bundle(cloud.bundle())
    keeper.refresh()
    keeper.refresh()
    assert heard == [cloud.bundle()]


def test_an_identity_from_elsewhere_gets_the_newer_bundles(
    store: TrustStore, gateway: Identity, cloud: Authority
) -> None:
    keeper = BundleKeeper(store, {}, own=BUILDING)
    assert keeper.on_top_of(gateway) is gateway
    newer = dataclasses.replace(cloud.bundle(), sequence=9)
    keeper.adopt(newer)
    assert keeper.on_top_of(gateway).bundles[CLOUD] == newer
