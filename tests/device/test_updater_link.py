"""A real agent over a real broker: listens, downloads, restarts, and says what it runs."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import ota_author
from tests.fakes.ota_gateway import ImageGateway
from tests.fakes.waiting import until

IMAGE = random.Random(3).randbytes(300_000)  # noqa: S311 -- any bytes


@pytest.mark.parametrize("protocol", [5, pytest.param(4, marks=pytest.mark.chaos)])
def test_an_agent_is_updated_over_its_uplink(tmp_path: Path, protocol: int) -> None:
    with ImageGateway().serving() as gateway:
        address = f'address = "127.0.0.1:{gateway.gateway.port}"\nprotocol = {protocol}'
        config = gateway.configure(tmp_path / "device", uplink=address)
        command = [sys.executable, "-m", "plantroom.device", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            gateway.wait(lambda report: report.state == "WAITING" and report.code == "head")
            gateway.release(IMAGE)
            assert process.wait(120) == 0  # its restart is the boot
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            gateway.wait(lambda report: report.state == "UPDATED")
            shown = gateway.gateway.presences
            until(lambda: shown[-1].info.get("firmware") == "1.10.0", deadline_s=60)
            process.terminate()
            said = process.communicate(timeout=60)[1]
        assert "does not let us listen" not in said
        updated = gateway.reports[-1][1]
        assert (updated.state, updated.running_digest) == ("UPDATED", ota_author.digest(IMAGE))
        states = [report.state for _, report in gateway.reports]
        for state in ("QUEUED", "INITIATED", "DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING"):
            assert state in states
