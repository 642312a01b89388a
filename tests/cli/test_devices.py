import json

import pytest

from tests.cli.conftest import Run

HVAC = "spiffe://building-1.smart.local/agent/hvac-001"

pytestmark = pytest.mark.usefixtures("set_up")


def test_the_fleet_is_a_table(run: Run) -> None:
    head, *rows = run("devices", "ls").out.splitlines()
    assert head.split()[:4] == ["DEVICE", "ROLE", "STATUS", "LINK"]
    assert [row.split()[0] for row in rows] == [
        "energy-001",
        "gateway",
        "hvac-001",
        "occupancy-001",
    ]


def test_a_device_is_revoked_and_restored(run: Run) -> None:
    assert run("devices", "revoke", "hvac-001", "--reason", "stolen").code == 0
    listed = {
        one["device"]: one for one in json.loads(run("devices", "ls", "--json").out)["devices"]
    }
    assert (listed["hvac-001"]["status"], listed["hvac-001"]["reason"]) == ("revoked", "stolen")
    assert listed["energy-001"]["status"] == "active"
    assert listed["hvac-001"]["online"] is None
    assert run("devices", "restore", HVAC).code == 0
    assert run("devices", "restore", HVAC).code == 1
    assert run("devices", "revoke", "hvac-009").code == 5


def test_one_svid_is_revoked_by_its_serial(run: Run) -> None:
    done = run("devices", "revoke", "hvac-001", "--serial", "0A:0B", "--json")
    assert json.loads(done.out) == {"spiffe_id": HVAC, "status": "revoked", "serial": "0A0B"}
    assert run("devices", "restore", "hvac-001", "--serial", "0a0b").code == 0
    assert run("devices", "revoke", "hvac-001", "--serial", "xyz").code == 2


def test_the_cloud_revokes_a_device_of_the_building_and_alone_restores_it(run: Run) -> None:
    cloud = ("--issuer", "smart-building.cloud")
    assert run("devices", "revoke", "hvac-001", *cloud).code == 0
    assert run("devices", "restore", "hvac-001").code == 1
    assert run("devices", "restore", "hvac-001", *cloud).code == 0
    assert run("devices", "revoke", "hvac-001", "--issuer", "elsewhere.example").code == 2
