"""Links that go away during a replay, through proxies set by environment overrides."""

from pathlib import Path

import pytest

from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building
from tests.system.test_replay import OFFICE, assert_equal, flags, slice_of

HOST = "127.0.0.1"
ROWS = 1500  # 15 s: the link is gone long before the replay is over


def queued(building: Building) -> int:
    status = building.json("status", "--json")["ledger"]
    return int(status.get("queued", 0))


@pytest.mark.parametrize("way", ["cut", "swallow"])
def test_the_way_to_the_cloud_goes_and_comes_back(
    building: Building, tmp_path: Path, way: str
) -> None:
    slices = [slice_of(OFFICE, ROWS, tmp_path)]
    with Proxy(HOST, building.port_base + 3).running() as proxy:
        building.start(*flags(slices, 6000), environ={"PLANTROOM_BRIDGE_ADDRESS": proxy.address})
        getattr(proxy, way)()
        until(lambda: queued(building) > 100, deadline_s=60, what="a queue at the gateway")
        assert building.run("ledger", "verify").returncode == 0
        proxy.restore()
        assert building.wait(deadline_s=90) == 0, building.said() + building.logs()
    assert_equal(building, slices)


def test_the_way_to_the_gateway_goes_and_comes_back(building: Building, tmp_path: Path) -> None:
    slices = [slice_of(OFFICE, ROWS, tmp_path)]
    with Proxy(HOST, building.port_base).running() as proxy:
        building.start(*flags(slices, 6000), environ={"PLANTROOM_UPLINK_ADDRESS": proxy.address})
        proxy.cut()
        until(
            lambda: building.json("devices", "ls", "--json")["devices"][1]["online"] is False,
            deadline_s=60,
            what="an offline sensor",
        )
        proxy.restore()
        assert building.wait(deadline_s=90) == 0, building.said() + building.logs()
    assert_equal(building, slices)
