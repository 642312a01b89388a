"""A building whose identities all come from two Workload APIs, which come late, rotate, and die.

Our own servers stand in for SPIRE's agents here; `test_spire.py` does the same with SPIRE itself.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import own_svid
from plantroom.certs.authority_rotation import Rotation
from plantroom.lab import people
from plantroom.lab.layout import Layout
from plantroom.wire.clock import SystemClock
from plantroom.wire.spiffe import SpiffeId
from tests.fakes import workload_agents
from tests.fakes.waiting import until
from tests.fakes.workload_agents import BUILDING, CLOUD
from tests.system.conftest import Building

pytestmark = [pytest.mark.real, pytest.mark.timeout(420)]
ROOT = Path(__file__).parents[2]
TTL_S = 30  # renewed at half of it: an agent that is away is missed 15 s later at the earliest
FLOWING = ("--devices", "2", "--speed", "600")  # ten readings a second of each
BELOW = ("agent/gateway", "agent/hvac-001", "agent/occupancy-001")
ABOVE = (
    *("agent/front", "agent/ingestion", "gateway/building-1", "agent/ota"),
    *("inspector/local", "operator/local"),
)


class Agents:
    """The two of them, in a process that can be killed; entries are made as an operator would."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.building, self.cloud = state / "building.sock", state / "cloud.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.fakes.workload_agents"),
                *map(str, (self.state, self.building, self.cloud)),
            ],
            cwd=ROOT,
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
        self._process = None

    def admit(self, trust_domain: str, *paths: str, ttl_s: int = TTL_S) -> None:
        registry = workload_agents.registry(self.state, trust_domain)
        for path in paths:
            selectors = (f"unix:uid:{os.geteuid()}",)
            registry.create(SpiffeId(trust_domain, path), selectors=selectors, ttl_s=ttl_s)
        registry.close()

    def rotation(self, trust_domain: str) -> Rotation:
        folder = self.state / trust_domain / "authority"
        return Rotation(folder, trust_domain, clock=SystemClock())

    @property
    def flags(self) -> tuple[str, ...]:
        return (
            *("--identity", "workload-api", "--building-socket", str(self.building)),
            *("--cloud-socket", f"unix:{self.cloud}"),
        )


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    made = Agents(tmp_path / "agents")
    made.state.mkdir()
    yield made
    made.kill()


def identities(building: Building) -> dict[str, Any]:
    """Return who the processes say that they are now."""
    status = building.json("status", "--json")
    gateway, cloud = status["gateway"] or {}, status["cloud"] or {}
    return {
        "gateway": gateway.get("identity"),
        "uplink": gateway.get("cloud_identity"),
        "ingestion": cloud.get("identity"),
    }


def flows(building: Building, *, device: str = "hvac-001", deadline_s: float = 60) -> None:
    """Wait until readings that did not exist yet are stored in the cloud."""
    before = len(building.export(device))
    until(
        lambda: len(building.export(device)) > before + 3,
        deadline_s=deadline_s,
        what="new readings in the cloud",
    )


def rotated(building: Building, since: dict[str, Any], *, deadline_s: float = 60) -> None:
    def serials(found: dict[str, Any]) -> set[str | None]:
        return {(one or {}).get("serial") for one in found.values()}

    old = serials(since) | {None}
    until(
        lambda: old.isdisjoint(serials(identities(building))),
        deadline_s=deadline_s,
        what="new SVIDs everywhere",
    )


def test_a_building_lives_by_what_two_agents_give_it(building: Building, agents: Agents) -> None:
    agents.start()
    until(agents.cloud.exists, deadline_s=60, what="the agents' sockets")
    agents.admit(BUILDING, *BELOW)
    agents.admit(CLOUD, *ABOVE)
    ready = building.start(*FLOWING, *agents.flags)
    first = identities(building)
    wanted = (f"spiffe://{BUILDING}/{BELOW[0]}", f"spiffe://{CLOUD}/{ABOVE[2]}")
    assert (first["gateway"]["spiffe_id"], first["uplink"]["spiffe_id"]) == wanted
    assert not (building.state / "gateway" / "authority").exists()
    roots = workload_agents.authority(agents.state, CLOUD).bundle().roots_der
    inspector = people.load(Layout(building.state).inspector)
    assert inspector.bundles[CLOUD].roots_der == roots
    flows(building)
    rotated(building, first)
    flows(building)

    serial = inspector.svid.serial  # people's files follow, so that tools always find a live one
    cert, key = (Path(ready["inspector"][name]) for name in ("cert", "key"))
    until(
        lambda: own_svid.read_svid(cert.read_bytes(), key.read_bytes()).serial != serial,
        deadline_s=60,
        what="the inspector's next certificate",
    )
    answer = building.run(
        *("call", "--target", f"spiffe://{BUILDING}/agent/hvac-001"),
        *("--capability", "read_sensors", "--data", "{}"),
    )
    assert answer.returncode == 0, answer.stderr

    for domain in (BUILDING, CLOUD):  # both roots change, one after the other
        rotation = agents.rotation(domain)
        rotation.prepare()
        rotation.activate(force=True)
    before = identities(building)
    rotated(building, before)
    flows(building)

    agents.kill()  # an agent that is away for less than an SVID's life is not missed
    flows(building)
    agents.start()
    before = identities(building)
    rotated(building, before)

    agents.kill()  # away for longer, everything expires; nothing is lost, and nobody has to help
    until(
        lambda: building.json("status", "--json")["link"]["connected"] is False,
        deadline_s=90,
        what="a gateway that the cloud does not know any more",
    )
    agents.start()
    flows(building, deadline_s=120)
    assert building.stop() == 0
    assert building.run("ledger", "verify").returncode == 0


def test_revoking_works_although_spire_goes_on_issuing(building: Building, agents: Agents) -> None:
    agents.start()
    until(agents.cloud.exists, deadline_s=60, what="the agents' sockets")
    agents.admit(BUILDING, *BELOW)
    agents.admit(CLOUD, *ABOVE)
    building.start(*FLOWING, *agents.flags)
    flows(building)

    def online() -> bool:
        devices = building.json("devices", "ls", "--json")["devices"]
        return bool(next(one["online"] for one in devices if one["device"] == "hvac-001"))

    assert online()
    assert building.run("devices", "revoke", "hvac-001").returncode == 0
    until(lambda: not online(), deadline_s=60, what="a device that is cut off")
    flows(building, device="occupancy-001")  # behind what the gateway had of the other
    before = len(building.export("hvac-001"))
    flows(building, device="occupancy-001")
    assert len(building.export("hvac-001")) == before
    assert building.run("devices", "restore", "hvac-001").returncode == 0
    until(online, deadline_s=90, what="a device that is back")
    flows(building)
    assert building.stop() == 0
    assert building.run("ledger", "verify").returncode == 0


def test_up_waits_for_agents_and_entries_and_names_what_is_missing(
    building: Building, agents: Agents
) -> None:
    errors = building.state.parent / "up.stderr"
    with errors.open("wb") as stderr:
        up = subprocess.Popen(
            [
                *(sys.executable, "-c", IMPATIENT, "up", "--devices", "1"),
                *("--state", str(building.state), "--port-base", str(building.port_base)),
                *agents.flags,
            ],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    agents.start()
    agents.admit(BUILDING, "agent/gateway")
    assert up.wait(120) == 4
    said = errors.read_text()
    assert said.startswith("plantroom: ")
    assert said.count("\n") == 1
    for part in (str(agents.building), str(agents.cloud), f"spiffe://{BUILDING}/agent/hvac-001"):
        assert part in said
    assert f"spiffe://{BUILDING}/agent/gateway" not in said


IMPATIENT = """
import sys
from plantroom.cli.main import main
from plantroom.lab import up
up.IDENTITIES_S = 8.0
sys.exit(main())
"""
