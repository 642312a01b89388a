"""What is kept of other trust domains, beside what this one has registered and revoked."""

import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

from plantroom.certs.authority import Authority
from plantroom.certs.denylist import DenyList
from plantroom.certs.registry import Registry
from plantroom.certs.registry_trust import TrustStore
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId

CLOUD, BUILDING = "smart-building.cloud", "building-1.smart.local"


@pytest.fixture
def store(registry: Registry) -> Iterator[TrustStore]:
    with contextlib.closing(TrustStore(registry.path)) as opened:
        yield opened


def listed(sequence: int, *names: str, issuer: str = CLOUD, serials: str = "") -> DenyList:
    return DenyList(
        issuer=issuer,
        sequence=sequence,
        at_us=1,
        spiffe_ids=dict.fromkeys(names, "stolen"),
        serials={serials: "leaked"} if serials else {},
    )


def test_an_issuer_has_an_empty_list_from_its_birth_and_every_change_raises_it(
    registry: Registry, store: TrustStore, sensor_id: SpiffeId
) -> None:
    born = store.own_list(BUILDING)
    assert (born.issuer, born.sequence, born.spiffe_ids, born.serials) == (BUILDING, 1, {}, {})
    registry.deny(sensor_id, reason="stolen")
    registry.deny("ab", reason="leaked")
    after = store.own_list(BUILDING)
    assert after.sequence == 3
    assert after.spiffe_ids == {str(sensor_id): "stolen"}
    assert after.serials == {"AB": "leaked"}
    registry.create(sensor_id)
    assert store.own_list(BUILDING).sequence == 3  # an entry is no revocation
    registry.restore(sensor_id)
    assert store.own_list(BUILDING).sequence == 4


def test_a_list_from_elsewhere_denies_beside_ones_own(
    registry: Registry, store: TrustStore, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    before = registry.counter()
    assert store.issuers() == frozenset()
    assert store.adopt_list(listed(4, str(sensor_id), serials="AB"), own_only=False)
    assert store.issuers() == {CLOUD}
    assert registry.counter() == before + 1
    data = registry.policy_data()
    assert data["revocation"]["spiffe_ids"] == {str(sensor_id): "stolen"}
    assert data["revocation"]["serials"] == {"AB": "leaked"}
    assert data["registry"]["devices"][str(sensor_id)]["status"] == "revoked"
    with pytest.raises(IdentityError) as caught:
        registry.admitted(sensor_id)
    assert caught.value.reason == "denied"
    assert not registry.restore(sensor_id)  # who did not revoke cannot restore
    assert store.denied(BUILDING) == {str(sensor_id): {CLOUD: "stolen"}}
    assert store.adopt_list(listed(5), own_only=False)
    registry.admitted(sensor_id)


def test_a_serial_from_elsewhere_is_refused_too(
    registry: Registry, store: TrustStore, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    store.adopt_list(listed(4, serials="AB"), own_only=False)
    registry.admitted(sensor_id, serial="AC")
    with pytest.raises(IdentityError):
        registry.admitted(sensor_id, serial="AB")


def test_an_older_list_is_refused_and_survives_no_restart(
    registry: Registry, store: TrustStore, sensor_id: SpiffeId
) -> None:
    store.adopt_list(listed(4, str(sensor_id)), own_only=False)
    assert not store.adopt_list(listed(4, str(sensor_id)), own_only=False)
    with contextlib.closing(TrustStore(registry.path)) as again:
        for rollback in (listed(3), listed(4)):
            with pytest.raises(IdentityError) as caught:
                again.adopt_list(rollback, own_only=False)
            assert caught.value.reason == "denylist-sequence"
        assert again.lists()[CLOUD] == listed(4, str(sensor_id))


def test_an_issuer_without_a_say_denies_its_own_ids_only(
    registry: Registry, store: TrustStore, sensor_id: SpiffeId
) -> None:
    front = SpiffeId(CLOUD, "agent/front")
    told = listed(1, str(sensor_id), str(front), "nonsense", issuer=BUILDING, serials="AB")
    store.adopt_list(told, own_only=True)
    revocation = registry.policy_data()["revocation"]
    assert revocation["spiffe_ids"] == {str(sensor_id): "stolen"}
    assert revocation["serials"] == {}


def test_bundles_are_kept_and_never_fall_back(
    store: TrustStore, cloud: Authority, building: Authority
) -> None:
    known = dataclasses.replace(cloud.bundle(), sequence=7)
    counter = store.counter()
    assert store.adopt_bundle(known)
    assert not store.adopt_bundle(known)
    assert store.counter() == counter + 1
    with contextlib.closing(TrustStore(store.path)) as again:
        assert again.bundles() == {CLOUD: known}
    older = dataclasses.replace(known, sequence=6)
    with pytest.raises(IdentityError) as caught:
        store.adopt_bundle(older)
    assert caught.value.reason == "bundle-sequence"
    assert store.adopt_bundle(older, force=True)
    other = dataclasses.replace(building.bundle(), trust_domain=CLOUD, sequence=6)
    with pytest.raises(IdentityError):
        store.adopt_bundle(other)
