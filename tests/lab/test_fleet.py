import pytest

from plantroom.certs.denylist import DenyList
from plantroom.lab import fleet, issuers
from plantroom.lab.layout import Layout
from plantroom.wire.errors import IdentityError, UnreachableError, UsageError
from plantroom.wire.spiffe import SpiffeId
from tests.lab.conftest import DEVICES, Answers, latest


def test_every_registered_device_is_listed(set_up: Layout) -> None:
    found = {one["device"]: one for one in fleet.devices(set_up)}
    assert set(found) == {"gateway", "hvac-001", "occupancy-001"}
    assert found["hvac-001"]["status"] == "active"
    assert found["hvac-001"]["online"] is None
    assert found["hvac-001"]["svid"] is None


def test_a_revocation_is_listed_with_its_reason_until_it_is_undone(set_up: Layout) -> None:
    device = DEVICES[0].spiffe_id
    fleet.revoke(set_up, device, reason="stolen", serial=None, issuer=None)
    (revoked,) = [one for one in fleet.devices(set_up) if one["status"] == "revoked"]
    assert (revoked["spiffe_id"], revoked["reason"]) == (str(device), "stolen")
    assert revoked["revoked_by"] == ["building-1.smart.local"]
    assert fleet.restore(set_up, device, serial=None, issuer=None) == (True, ())
    assert fleet.restore(set_up, device, serial=None, issuer=None) == (False, ())


def test_each_issuer_undoes_its_own_revocation_only(set_up: Layout) -> None:
    device = DEVICES[0].spiffe_id
    cloud = "smart-building.cloud"
    fleet.revoke(set_up, device, reason="stolen", serial=None, issuer=cloud)
    told = DenyList(issuer=cloud, sequence=9, at_us=1, spiffe_ids={str(device): "stolen"})
    with issuers.building(set_up).trust() as trust:
        trust.adopt_list(told, own_only=False)  # as it comes over the bridge
    assert fleet.restore(set_up, device, serial=None, issuer=None) == (False, (cloud,))
    assert fleet.restore(set_up, device, serial=None, issuer=cloud) == (True, ())


def test_a_serial_is_revoked_alone_and_a_building_has_no_say_over_the_cloud(
    set_up: Layout,
) -> None:
    device = DEVICES[0].spiffe_id
    fleet.revoke(set_up, device, reason="leaked", serial="0a0b", issuer=None)
    assert all(one["status"] == "active" for one in fleet.devices(set_up))
    assert fleet.restore(set_up, device, serial="0A0B", issuer=None) == (True, ())
    front = SpiffeId("smart-building.cloud", "agent/front")
    with pytest.raises(UsageError, match="no say"):
        fleet.revoke(set_up, front, reason="x", serial=None, issuer="building-1.smart.local")


def test_who_is_not_registered_cannot_be_revoked(set_up: Layout) -> None:
    with pytest.raises(IdentityError, match="no registration entry"):
        fleet.revoke(
            set_up,
            SpiffeId("building-1.smart.local", "agent/nobody"),
            reason="x",
            serial=None,
            issuer=None,
        )
    with pytest.raises(UsageError, match="no issuer here"):
        fleet.revoke(
            set_up,
            SpiffeId("elsewhere.example", "agent/nobody"),
            reason="x",
            serial=None,
            issuer=None,
        )


def test_a_folder_without_a_building_says_so(layout: Layout) -> None:
    with pytest.raises(UnreachableError, match="plantroom up"):
        fleet.devices(layout)


def test_who_is_online_comes_from_the_gateways_board(web: Answers) -> None:
    assert fleet.online(web.port) is None
    web.by_path["/api/latest"] = latest(("hvac-001", True, {}), ("energy-001", False, {}))
    assert fleet.online(web.port) == {"hvac-001": True, "energy-001": False}
