"""SVIDs and roots change while readings flow; days without a cloud; a late return. For real.

SVIDs live 20 s here, so that an hour's life passes in 20 s. `PLANTROOM_ROTATIONS` and
`PLANTROOM_OUTAGE_RENEWALS` make it shorter (CI's slice) or longer.
"""

import os
import time
from pathlib import Path

import pytest

from plantroom.certs.roles import CLOUD_TRUST_DOMAIN
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.lab.layout import Layout
from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building, Make

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

ROTATIONS = int(os.environ.get("PLANTROOM_ROTATIONS", "50"))
OUTAGE_RENEWALS = int(os.environ.get("PLANTROOM_OUTAGE_RENEWALS", "72"))
TTL_S, HOST = 20, "127.0.0.1"
SENSORS = ("hvac-001", "occupancy-001", "energy-001")
SHORT = {"PLANTROOM_IDENTITY_SVID_TTL_S": str(TTL_S)}
FLOWING = ("--devices", "3", "--speed", "60")  # a reading a second of each


@pytest.fixture
def building(make_building: Make) -> Building:
    """Give a building whose SVIDs live 20 s, set up and stopped."""
    building = make_building()
    building.start(*FLOWING, environ=SHORT)
    building.stop()
    for name in SENSORS:
        entry = f"spiffe://{TRUST_DOMAIN}/agent/{name}"
        assert (
            building.run("identity", "entry", "create", entry, "--ttl", str(TTL_S)).returncode == 0
        )
    uplink = f"spiffe://{CLOUD_TRUST_DOMAIN}/gateway/building-1"
    assert building.run("identity", "entry", "create", uplink, "--ttl", str(TTL_S)).returncode == 0
    layout = Layout(building.state)
    folders = [layout.device_identity(name) for name in SENSORS] + [layout.uplink_identity]
    for folder in folders:  # the hour-long SVIDs of the set-up go
        (folder / "svid.pem").unlink()
    return building


def log(building: Building, name: str) -> str:
    return Path(building.state / "logs" / f"{name}.log").read_text()


def stored(building: Building, name: str = "hvac-001") -> int:
    return len(building.export(name))


def closes(building: Building) -> None:
    done = building.run("ledger", "verify", timeout_s=120)
    assert done.returncode == 0, done.stderr + building.logs()


def renewals(building: Building, name: str) -> int:
    """How often a sensor reconnected with a new SVID."""
    return log(building, name).count("reconnected with the new SVID")


def authority(building: Building, *words: str) -> None:
    for domain in (TRUST_DOMAIN, CLOUD_TRUST_DOMAIN):
        done = building.run("identity", "authority", *words, "--trust-domain", domain)
        assert done.returncode == 0, done.stderr


def test_rotations_of_every_svid_and_of_both_roots_refuse_and_lose_nothing(
    building: Building,
) -> None:
    building.start(*FLOWING, environ=SHORT)
    begun = {name: log(building, name) for name in ("gateway", "cloud")}
    before = stored(building)

    def turned(count: int) -> None:
        """Wait for so many rotations of every sensor; the gateway's and the cloud's run along."""
        wanted = {name: renewals(building, name) + count for name in SENSORS}
        until(
            lambda: all(renewals(building, name) >= wanted[name] for name in SENSORS),
            deadline_s=60 + count * TTL_S,
            what=f"{count} rotations",
        )

    turned(ROTATIONS // 2)
    for step in (("prepare",), ("activate", "--force")):
        authority(building, *step)
        turned(2)  # so everybody has an SVID that knows of it
    turned(max(4, ROTATIONS - ROTATIONS // 2 - 4))
    authority(building, "retire", "--force")
    turned(2)

    for name, old in begun.items():
        new = log(building, name)[len(old) :]
        refused = [line for line in new.splitlines() if "refused" in line or "denied" in line]
        assert not refused, refused[:5]
    assert stored(building) > before
    assert log(building, "gateway").count("renewed id=") >= ROTATIONS
    closes(building)


def test_days_without_a_cloud_and_the_return_need_nobody(building: Building) -> None:
    with (
        Proxy(HOST, building.port_base + 3).running() as mqtt,
        Proxy(HOST, building.port_base + 4).running() as enrol,
    ):
        environ = SHORT | {
            "PLANTROOM_BRIDGE_ADDRESS": mqtt.address,
            "PLANTROOM_IDENTITY_CLOUD_ENROL_ADDRESS": enrol.address,
        }
        building.start(*FLOWING, environ=environ)
        until(lambda: stored(building) > 0, deadline_s=60, what="readings in the cloud")
        for proxy in (mqtt, enrol):
            proxy.cut()
        stopped_at = stored(building)
        wanted = {name: renewals(building, name) + OUTAGE_RENEWALS for name in SENSORS}
        until(
            lambda: all(renewals(building, name) >= wanted[name] for name in SENSORS),
            deadline_s=120 + OUTAGE_RENEWALS * TTL_S,
            what=f"{OUTAGE_RENEWALS} renewals in an outage",
        )
        time.sleep(TTL_S + 1)  # until the gateway's SVID of the cloud has expired for certain
        assert stored(building) <= stopped_at + 5
        for proxy in (mqtt, enrol):
            proxy.restore()
        until(lambda: stored(building) > stopped_at + 20, deadline_s=120, what="a late return")
        closes(building)
        assert "late_s=0" not in _last_renewal(building), building.logs()


def _last_renewal(building: Building) -> str:
    """Return the cloud's line of the first renewal after the outage."""
    lines = [line for line in log(building, "cloud").splitlines() if "renewed peer" in line]
    return next((line for line in lines if "late_s=0" not in line), "late_s=0")


def test_whoever_was_off_until_everything_had_expired_comes_back_alone(
    building: Building,
) -> None:
    building.start(*FLOWING, environ=SHORT)
    until(lambda: stored(building) > 0, deadline_s=60, what="readings in the cloud")
    building.stop()
    before = stored(building)
    time.sleep(TTL_S + 5)
    building.start(*FLOWING, environ=SHORT)
    until(lambda: stored(building) > before + 5, deadline_s=60, what="readings again")
    closes(building)
