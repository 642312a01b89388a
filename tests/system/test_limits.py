"""The queue's limits and the bridge's bandwidth cap, each on a whole building."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building
from tests.system.test_offline import figure
from tests.system.test_replay import OFFICE, assert_equal, flags, slice_of

HOST = "127.0.0.1"
READINGS_MAX = 100
CAP = 4_000


def books(building: Building, name: str) -> list[dict[str, Any]]:
    found = building.json("ledger", "show", "--json")["books"]
    return [book for book in found if book["device"].endswith(name)]


def evicted(building: Building, side: str) -> int:
    return sum(
        count
        for book in books(building, "hvac-001")
        for reason, count in (book[side] or {"reasons": {}})["reasons"].items()
        if reason == "evicted(full)"
    )


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("policy", ["reject", "oldest", "newest"])
def test_a_full_queue_does_what_its_policy_says(building: Building, policy: str) -> None:
    with Proxy(HOST, building.port_base + 3).running() as wan:
        wan.cut()  # from the beginning: the first reading is also the first that waits
        ready = building.start(
            *("--devices", "1", "--speed", "600"),  # ten a second; the limit is kept every second
            environ={
                "PLANTROOM_BRIDGE_ADDRESS": wan.address,
                "PLANTROOM_QUEUE_POLICY": policy,
                "PLANTROOM_QUEUE_READINGS_MAX": str(READINGS_MAX),
            },
        )
        gateway = ready["gateway"]["http"]
        if policy == "reject":
            until(
                lambda: figure(gateway, "plantroom_queue_refusing") == 1, deadline_s=180, what="it"
            )
        else:
            until(lambda: evicted(building, "gateway") > 20, deadline_s=180, what="evictions")
        waiting = figure(gateway, 'plantroom_queue_readings{lane="backfill"}') + figure(
            gateway, 'plantroom_queue_readings{lane="live"}'
        )
        assert waiting <= READINGS_MAX + 50, "a publish more may be under way"
        assert building.run("ledger", "verify").returncode == 0
        wan.restore()
        until(
            lambda: (
                figure(gateway, "plantroom_link_connected") == 1
                and figure(gateway, "plantroom_queue_refusing") == 0
                and figure(gateway, "plantroom_queue_notes") == 0
            ),
            deadline_s=180,
            what="a drain",
        )
        until(
            lambda: evicted(building, "cloud") == evicted(building, "gateway"),
            deadline_s=180,
            what="tombstones in the cloud",
        )
        assert (evicted(building, "cloud") > 0) == (policy != "reject")
        stored = books(building, "hvac-001")[0]["cloud"]["ranges"]
        assert (stored[0][0] == 0) == (policy != "oldest")
        assert building.run("ledger", "verify").returncode == 0, building.logs()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_the_backlog_keeps_to_the_bandwidth_cap(building: Building, tmp_path: Path) -> None:
    slices = [slice_of(OFFICE, 4000, tmp_path)]
    with Proxy(HOST, building.port_base + 3).running() as wan:
        ready = building.start(
            *flags(slices, 60_000),
            environ={
                "PLANTROOM_BRIDGE_ADDRESS": wan.address,
                "PLANTROOM_BRIDGE_BYTES_PER_S_MAX": str(CAP),
                "PLANTROOM_BRIDGE_BACKFILL_READINGS_MAX": "200",
            },
        )
        gateway = ready["gateway"]["http"]
        wan.cut()
        until(
            lambda: (
                figure(gateway, 'plantroom_queue_readings{lane="backfill"}')
                + figure(gateway, 'plantroom_queue_readings{lane="live"}')
                >= 3000
            ),
            deadline_s=180,
            what="a backlog",
        )
        wan.restore()
        backlog = 'plantroom_queue_readings{lane="backfill"}'
        # the page is up to a second old: a link, and still the lanes of before; and it ends soon
        until(lambda: figure(gateway, backlog) >= 1500, deadline_s=180, what="a link")
        before, began_s = wan.bytes_up, time.monotonic()
        until(lambda: figure(gateway, backlog) < 1000, deadline_s=180, what="a drain")
        took_s = time.monotonic() - began_s
        assert took_s > 2, "a drain that short says nothing of a rate"
        rate = (wan.bytes_up - before) / took_s
        assert rate < 1.5 * CAP, f"{rate:.0f} bytes/s on the wire"
        assert building.wait(deadline_s=180) == 0, building.said() + building.logs()
    assert_equal(building, slices)
