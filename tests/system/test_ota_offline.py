"""A building that is cut off in the middle of an update completes it, and says so afterwards."""

import os
import random
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
HOST, DEVICE = "127.0.0.1", "hvac-001"
IMAGE_BYTES = 900_000


def fetched(building: Building) -> int:
    url = f"http://{HOST}:{building.port_base + 2}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (value,) = [line for line in lines if line.startswith("plantroom_ota_fetched_bytes_total ")]
    return int(float(value.split()[1]))


def events(building: Building) -> set[str]:
    rows = building.json("ota", "audit", "--json")
    return {row["event"] for row in rows if row["device"] == DEVICE}


def test_a_building_that_is_cut_off_completes_its_update(
    building: Building, tmp_path: Path
) -> None:
    log = building.state / "logs" / f"{DEVICE}.log"
    image = tmp_path / "image"
    image.write_bytes(random.Random(3).randbytes(IMAGE_BYTES))  # noqa: S311 -- any bytes
    with Proxy(HOST, building.port_base + 3).running() as wan:
        building.start(
            "--devices", "1", "--speed", "10", environ={"PLANTROOM_BRIDGE_ADDRESS": wan.address}
        )
        device = building.pids()[DEVICE]
        os.kill(device, signal.SIGSTOP)  # it is busy elsewhere, while its gateway fetches
        try:
            words = ("ota", "publish", str(image), "--version", "1.1.0", "--wait", "0")
            done = building.run(*words)
            assert done.returncode == 0, done.stderr + building.logs()
            until(
                lambda: fetched(building) == IMAGE_BYTES,
                deadline_s=60,
                what="an image in the cache",
            )
            wan.cut()
        finally:
            os.kill(device, signal.SIGCONT)
        wanted = "firmware 1.1.0 has proved itself"
        until(lambda: wanted in log.read_text(), deadline_s=90, what="the update, offline")
        assert "updated" not in events(building)
        wan.restore()
        until(lambda: "updated" in events(building), deadline_s=60, what="its report in the cloud")
    assert fetched(building) == IMAGE_BYTES, "one image crossed the WAN once"
