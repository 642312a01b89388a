"""Releases on a whole building: published, rolled back, triggered by any client, and killed."""

import hashlib
import json
import random
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from tests.fakes.waiting import until
from tests.system.conftest import Building

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
DEVICE = "hvac-001"


def application(path: Path, code: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", code)
    return path


def publish(building: Building, image: Path, version: str, *words: str) -> dict[str, str]:
    """Publish, and return each device's last state."""
    command = ("ota", "publish", str(image), "--version", version, "--wait", "90", "--json")
    done = building.run(*command, *words, timeout_s=150)
    assert done.stdout, done.stderr + building.logs()
    states: dict[str, str] = json.loads(done.stdout)["states"]
    assert (done.returncode == 0) == (set(states.values()) == {"UPDATED"}), done.stderr
    return states


def mosquitto_pub(building: Building, topic: str, file: Path, *words: str) -> None:
    folder = building.state / "operator"
    subprocess.run(
        [
            *("mosquitto_pub", "-h", "127.0.0.1", "-p", str(building.port_base + 3), "-q", "1"),
            *("--cafile", str(folder / "ca.pem"), "--cert", str(folder / "cert.pem")),
            *("--key", str(folder / "key.pem"), "-t", topic, "-f", str(file), *words),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )


def test_releases_are_installed_rolled_back_and_triggered_by_any_client(
    building: Building, tmp_path: Path
) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed: mosquitto-clients")
    building.start("--devices", "1", "--speed", "10")
    log = building.state / "logs" / f"{DEVICE}.log"
    image = tmp_path / "image"
    image.write_bytes(random.Random(1).randbytes(700_000))  # noqa: S311 -- any bytes
    assert publish(building, image, "1.1.0") == {DEVICE: "UPDATED"}
    assert "firmware 1.1.0 has proved itself" in log.read_text()

    bad = application(tmp_path / "bad", "raise SystemExit(7)")
    assert publish(building, bad, "1.2.0") == {DEVICE: "ROLLED_BACK"}

    good = application(tmp_path / "good", "print('well')")
    assert building.run("ota", "sign", str(good), "--version", "1.3.0").returncode == 0
    manifest = good.with_name("good.suit")
    mosquitto_pub(building, "v1/building-1/ota/hvac/manifest", manifest, "-r")
    name = hashlib.sha256(good.read_bytes()).hexdigest()
    cloud = building.state / "logs" / "cloud.log"
    until(lambda: "1.3.0" in cloud.read_text(), deadline_s=60, what="the registration")
    mosquitto_pub(building, f"v1/cloud/fw/{name}/0", good)
    wanted = "firmware 1.3.0 has proved itself"
    until(lambda: wanted in log.read_text(), deadline_s=60, what="the update")

    large = tmp_path / "large"
    large.write_bytes(random.Random(2).randbytes(6_000_000))  # noqa: S311 -- any bytes
    killing = threading.Thread(target=_kill_in_the_middle, args=(building, log))
    killing.start()
    assert publish(building, large, "1.4.0") == {DEVICE: "UPDATED"}
    killing.join(60)
    slots = [
        path.read_bytes()
        for path in (log.parents[1] / "devices" / DEVICE / "firmware").glob("slot-*")
    ]
    assert large.read_bytes() in slots


def _kill_in_the_middle(building: Building, log: Path) -> None:
    until(lambda: "update to 1.4.0 begins" in log.read_text(), deadline_s=60, what="a download")
    building.kill(DEVICE)
