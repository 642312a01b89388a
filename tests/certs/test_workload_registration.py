"""Who gets an entry when SPIRE has issued its SVID."""

import pytest

from plantroom.certs.registry import Registry
from plantroom.certs.workload_registration import PARENT, registering
from plantroom.wire.errors import IdentityError, StorageError
from plantroom.wire.identity import Principal
from plantroom.wire.spiffe import SpiffeId
from tests.certs.conftest import BUILDING, CLOUD


def admitted(text: str) -> Principal:
    return Principal(spiffe_id=SpiffeId.parse(text), serial="00", not_after_s=0)


@pytest.mark.parametrize(
    ("text", "role"),
    [
        (f"spiffe://{BUILDING}/agent/new-1", "sensor"),
        (f"spiffe://{BUILDING}/agent/gateway", "gateway"),
        (f"spiffe://{BUILDING}/spire/agent/join_token/x", None),
        (f"spiffe://{CLOUD}/operator/ann", None),
        ("spiffe://other.site/agent/x", None),
    ],
)
def test_an_id_of_the_own_trust_domain_is_registered_by_the_role_of_its_path(
    registry: Registry, text: str, role: str | None
) -> None:
    check = registering(admitted, registry, trust_domain=BUILDING, cloud_trust_domain=CLOUD)
    assert check(text) == admitted(text)
    assert check(text) == admitted(text)
    found = [(str(entry.spiffe_id), entry.role, entry.parent) for entry in registry.list()]
    assert found == ([] if role is None else [(text, role, PARENT)])


def test_what_is_registered_or_denied_already_stays_as_it_is(
    registry: Registry, sensor_id: SpiffeId
) -> None:
    entry = registry.create(sensor_id, dns=("room.local",))
    registry.deny(sensor_id, reason="operator")
    check = registering(admitted, registry, trust_domain=BUILDING, cloud_trust_domain=CLOUD)
    check(str(sensor_id))
    assert registry.show(sensor_id) == entry
    with pytest.raises(IdentityError):
        registry.admitted(sensor_id)


def test_a_registry_that_cannot_be_written_leaves_the_decision_to_policy(
    registry: Registry, sensor_id: SpiffeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("no space left")

    check = registering(admitted, registry, trust_domain=BUILDING, cloud_trust_domain=CLOUD)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "create", full)
        assert check(str(sensor_id)).spiffe_id == sensor_id
    assert registry.list() == ()
    check(str(sensor_id))
    assert [entry.spiffe_id for entry in registry.list()] == [sensor_id]
