"""A building on real SPIRE: two servers, two agents, federation; visibly skipped where it is not.

What docs/how-to/spire.md tells an operator to do, done.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from plantroom.lab import people
from plantroom.lab.layout import Layout
from tests.fakes import spire
from tests.fakes.ports import free_ports
from tests.fakes.spire import Spire
from tests.fakes.waiting import until
from tests.fakes.workload_agents import BUILDING, CLOUD
from tests.system.conftest import Building
from tests.system.test_workload_api import ABOVE, BELOW, flows, identities

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
TTL_S = 60
ROTATION_S = 120  # agents rotate at half life, and look every five seconds
SERVERS = ("agent/gateway", "agent/front")


@pytest.fixture
def spires() -> Iterator[tuple[Spire, Spire]]:
    """The building's and the cloud's, federated with each other."""
    spire.need()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spire-")))
        made = [
            stack.enter_context(closing(Spire(name, folder / part, port=free_ports(2))))
            for name, part in ((BUILDING, "b"), (CLOUD, "c"))
        ]
        for one in made:
            one.start()
        below, above = made
        below.federate(above)
        above.federate(below)
        yield below, above


def admit_all(below: Spire, above: Spire) -> None:
    for one, other, paths in ((below, above, BELOW), (above, below, ABOVE)):
        for path in paths:
            extra = ("-dns", "localhost") if path in SERVERS else ()
            federated = ("-federatesWith", f"spiffe://{other.trust_domain}")
            one.admit(path, *federated, *extra, "-hint", path.rpartition("/")[2], ttl_s=TTL_S)


def test_a_building_lives_on_real_spire(building: Building, spires: tuple[Spire, Spire]) -> None:
    below, above = spires
    admit_all(below, above)
    ready = building.start(
        *("--devices", "2", "--speed", "60", "--identity", "workload-api"),
        *("--building-socket", str(below.socket), "--cloud-socket", f"unix://{above.socket}"),
    )
    first = identities(building)
    assert first["gateway"]["spiffe_id"] == f"spiffe://{BUILDING}/agent/gateway"
    assert first["uplink"]["spiffe_id"] == f"spiffe://{CLOUD}/gateway/building-1"
    inspector = people.load(Layout(building.state).inspector)
    assert set(inspector.bundles) == {BUILDING, CLOUD}
    assert Path(ready["inspector"]["ca"]).read_text().count("BEGIN CERTIFICATE") >= 2
    flows(building)
    watched = building.run(
        *("call", "--target", f"spiffe://{BUILDING}/agent/hvac-001"),
        *("--capability", "read_sensors", "--data", "{}"),
    )
    assert watched.returncode == 0, watched.stderr + below.logs()
    rotated(building, first)
    flows(building)

    below.kill_agent()
    above.kill_agent()
    flows(building)
    below.start_agent()
    above.start_agent()
    rotated(building, identities(building))
    flows(building)

    assert building.run("devices", "revoke", "hvac-001").returncode == 0
    until(lambda: not online(building, "hvac-001"), deadline_s=10, what="a device that is cut off")
    assert building.run("devices", "restore", "hvac-001").returncode == 0
    until(lambda: online(building, "hvac-001"), deadline_s=90, what="a device that is back")
    assert building.stop() == 0
    assert building.run("ledger", "verify").returncode == 0


def rotated(building: Building, since: dict[str, object]) -> None:
    until(
        lambda: all(
            now is not None and now != since[name] for name, now in identities(building).items()
        ),
        deadline_s=ROTATION_S,
        what="new SVIDs from SPIRE everywhere",
    )


def online(building: Building, name: str) -> bool:
    devices = building.json("devices", "ls", "--json")["devices"]
    return bool(next(one["online"] for one in devices if one["device"] == name))
