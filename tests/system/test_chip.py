"""A sensor with a TPM joins a running building by its chip alone; a changed start keeps it out.

The chip is Debian's swtpm; nothing else is not the product.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import swtpm
from tests.fakes.waiting import until
from tests.system.conftest import Building

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SENSOR = "spiffe://building-1.smart.local/agent/hvac-900"
TTL_S = "6"
DEADLINE_S = 90.0


def configure(folder: Path, building: Building, chip: str) -> Path:
    config = folder / "sensor.toml"
    config.write_text(
        f'[agent]\nname = "hvac-900"\nstate = "{folder / "sensor"}"\n'
        f'[identity]\nattestor = "tpm"\ntpm = "{chip}"\n'
        f'enrol_address = "127.0.0.1:{building.port_base + 1}"\n'
        f'[uplink]\naddress = "127.0.0.1:{building.port_base}"\nreconnect_s_max = 1.0\n'
        "[sampling]\nperiod_s = 0.5\n"
        '[log]\nlevel = "INFO"\ntarget = "stderr"\n'
    )
    return config


@contextmanager
def agent(config: Path, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "plantroom.device", str(config)]
    with log.open("ab") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def test_a_sensor_joins_by_its_chip_and_a_changed_start_keeps_it_out(
    building: Building, tmp_path: Path
) -> None:
    ca, log = swtpm.make(tmp_path / "chip"), tmp_path / "sensor.log"
    log.touch()
    building.start("--devices", "1", environ={"PLANTROOM_IDENTITY_TPM_CA_FILE": str(ca)})

    def said(text: str, count: int = 1) -> bool:
        return log.read_text().count(text) >= count

    def command(*words: str) -> None:
        done = building.run(*words)
        assert done.returncode == 0, done.stderr

    def pending() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = building.json("identity", "pending", "--json")["pending"]
        return found

    def wait_for(text: str, count: int = 1) -> None:
        try:
            until(lambda: said(text, count), deadline_s=DEADLINE_S, what=text)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text()}{building.logs()}") from None

    with swtpm.started(tmp_path / "chip") as chip:
        config = configure(tmp_path, building, chip)
        pin = building.run("identity", "bundle", "show", "--format", "sha256").stdout
        (tmp_path / "sensor" / "identity").mkdir(parents=True)
        (tmp_path / "sensor" / "identity" / "bundle-sha256").write_text(pin)
        shown = building.json("identity", "fingerprint", str(config), "--json")["fingerprint"]
        with agent(config, log):
            (waiting,) = until(pending, deadline_s=DEADLINE_S, what="a chip that waits")
            assert shown == f"tpm:pub_hash:{waiting['fingerprint']}"
            entry = ("identity", "entry", "create", SENSOR, "--ttl", TTL_S)
            command(*entry, "--selector", shown)
            wait_for("identity: spiffe", 3)  # and proves itself again at each renewal
            wait_for("uplink: connected")
        swtpm.extend(chip, 7, hashlib.sha256(b"evil boot loader").digest())
        with agent(config, log):
            wait_for("registers are not those of a golden set")
            command("identity", "golden", "accept", SENSOR)
            before = log.read_text().count("identity: spiffe")
            wait_for("identity: spiffe", before + 1)
    audit = (building.state / "logs" / "gateway.log").read_text()
    assert f"id={SENSOR} reason=pcr-policy" in audit
    assert "reason=no-entry" in audit
