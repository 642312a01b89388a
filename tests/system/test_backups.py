"""Media that are lost or put back, identities that are there twice: noticed, and nothing doubled.

What is gone is named; what is still in a sensor's ring, or in a gateway's history, comes again.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building

HOST = "127.0.0.1"
FAST = ("--devices", "1", "--speed", "600")
HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def cloud_counts(building: Building) -> dict[int, int]:
    """Return how many readings of the sensor are in the cloud, by epoch."""
    found = building.json("ledger", "show", "--json")["books"]
    return {
        book["epoch"]: book["cloud"]["count"]
        for book in found
        if book["device"] == HVAC and book["cloud"]
    }


def stored(building: Building, least: int) -> dict[int, int]:
    until(
        lambda: sum(cloud_counts(building).values()) >= least,
        deadline_s=180,
        what=f"{least} stored readings",
    )
    return cloud_counts(building)


def heads_waiting(building: Building) -> int:
    return sum(
        len(range(first, last + 1))
        for book in building.json("ledger", "show", "--json")["books"]
        for first, last in book["queued"]
    )


def verified(building: Building) -> dict[str, Any]:
    done = building.run("ledger", "verify", "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["closes"] else 1)
    return report


def closes(building: Building) -> bool:
    report = verified(building)
    return bool(report["closes"]) and not report["at_sensors"] and report["queued"] <= 20


def alarms(building: Building, rule: str) -> str:
    """Return the state of an alarm, as an inspector sees it in the cloud."""
    done = building.run(
        *("watch", f"v1/building-1/alarm/{rule}/+", "--via", "cloud"),
        *("--count", "1", "--duration", "2", "--json"),
    )
    return str(json.loads(done.stdout)["json"]["state"]) if done.stdout else ""


def accounted(building: Building, epoch: int) -> dict[str, Any]:
    """Return the cloud's book of an epoch, once nothing of it is missing without a word."""
    books = building.json("ledger", "show", "--json")["books"]
    book: dict[str, Any] = next(one["cloud"] for one in books if one["epoch"] == epoch)
    known = book["count"] + sum(book["reasons"].values())
    return book if known == book["highest"] + 1 else {}


def log(building: Building, name: str) -> str:
    return (building.state / "logs" / f"{name}.log").read_text("utf-8")


@pytest.mark.parametrize("ring", [1000, 10])
def test_a_gateway_whose_disk_is_gone_is_refilled_from_the_ring_and_the_rest_is_named(
    building: Building, ring: int
) -> None:
    with Proxy(HOST, building.port_base + 3).running() as wan:
        environ = {
            "PLANTROOM_BRIDGE_ADDRESS": wan.address,
            "PLANTROOM_BUFFER_READINGS_MAX": str(ring),
        }
        building.start(*FAST, environ=environ)
        (epoch, before) = next(iter(stored(building, 10).items()))
        wan.cut()
        until(lambda: heads_waiting(building) >= 60, deadline_s=180, what="a queue")
        assert building.stop() == 0
        for path in (building.state / "gateway").glob("queue.db*"):
            path.unlink()
        wan.restore()
        building.start(*FAST, environ=environ)
        if ring == 1000:
            # the books of a new gateway, which knows of nothing yet, close as well
            until(
                lambda: cloud_counts(building)[epoch] >= before + 60,
                deadline_s=180,
                what="everything that was in the queue",
            )
            until(lambda: closes(building), deadline_s=180, what="books that close")
        else:
            until(
                lambda: any(fault["what"] == "lost" for fault in verified(building)["faults"]),
                deadline_s=180,
                what="a range that is named lost",
            )
            faults = verified(building)["faults"]
            assert {(lost["device"], lost["epoch"]) for lost in faults} == {(HVAC, epoch)}
            book = until(
                lambda: accounted(building, epoch),
                deadline_s=180,
                what="an epoch of which each reading is stored or named lost",
            )
            assert book["count"] >= before
            assert book["reasons"]["lost(media)"] > 0


@pytest.mark.parametrize("told", [False, True])
def test_a_cloud_store_put_back_from_a_backup_is_refilled(
    building: Building, *, told: bool
) -> None:
    store = building.state / "cloud" / "store.db"
    building.start(*FAST)
    stored(building, 10)
    assert building.stop() == 0
    backup = store.read_bytes()
    building.start(*FAST)
    stored(building, 60)
    assert building.stop() == 0
    counts = cloud_counts(building)
    for path in store.parent.glob("store.db*"):
        path.unlink()
    store.write_bytes(backup)
    assert sum(cloud_counts(building).values()) < sum(counts.values())
    if told:
        assert building.run("ledger", "renew-store").returncode == 0
    building.start(*FAST)
    until(
        lambda: all(cloud_counts(building).get(epoch, 0) >= n for epoch, n in counts.items()),
        deadline_s=180,
        what="a store that has everything again",
    )
    until(lambda: closes(building), deadline_s=180, what="books that close")
    if not told:
        until(
            lambda: "alarm store-restored of gateway" in log(building, "cloud"),
            deadline_s=60,
            what="an alarm about a store that was put back",
        )


@contextlib.contextmanager
def twin(building: Building, kind: str, folder: Path, config: Path) -> Iterator[None]:
    """Run a second process on a copy of another's state."""
    with (building.state / "logs" / "twin.log").open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", f"plantroom.{kind}", str(config)],
            stdout=file,
            stderr=file,
            cwd=folder,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait()


def copied(building: Building, folder: Path, name: str, *ports: tuple[int, int]) -> Path:
    """Copy a part's state folder, as from a backup; return its configuration."""
    target = folder / "twin"
    shutil.copytree(building.state / name, target, ignore=shutil.ignore_patterns("*.sock", "*lock"))
    (config,) = target.glob("*.toml")
    text = config.read_text("utf-8").replace(str(building.state / name), str(target))
    for old, new in ports:
        text = re.sub(rf"\b{old}\b", f"{new}", text)
    config.write_text(text, "utf-8")
    return config


def test_two_gateways_with_one_identity_are_noticed_and_nothing_is_doubled(
    building: Building, make_building: Any, tmp_path: Path
) -> None:
    building.start(*FAST)
    stored(building, 10)
    assert building.stop() == 0
    base, other = building.port_base, make_building("other").port_base
    config = copied(building, tmp_path, "gateway", *((base + n, other + n) for n in (0, 1, 2, 6)))
    building.start(*FAST)
    stored(building, 20)
    with twin(building, "gateway", tmp_path, config):
        until(
            lambda: alarms(building, "interleaved-gateway") == "raised",
            deadline_s=180,
            what="an alarm about two gateways",
        )
    until(lambda: closes(building), deadline_s=180, what="books that close")
    rows = building.run("readings", "export", "--device", "hvac-001").stdout.splitlines()[1:]
    keys = [tuple(row.split(",")[i] for i in (3, 6, 7)) for row in rows]
    assert len(keys) == len(set(keys)), "nothing is doubled"


def test_a_cloned_sensor_is_noticed_and_nothing_is_doubled_or_dropped(
    building: Building, tmp_path: Path
) -> None:
    building.start(*FAST)
    stored(building, 10)
    assert building.stop() == 0
    config = copied(building, tmp_path, "devices/hvac-001")
    building.start(*FAST)
    stored(building, 40)
    assert building.stop() == 0
    building.start(*FAST)
    with twin(building, "device", tmp_path, config):
        until(
            lambda: alarms(building, "cloned-device") == "raised",
            deadline_s=180,
            what="an alarm about a clone",
        )
    until(lambda: closes(building), deadline_s=180, what="books that close")
