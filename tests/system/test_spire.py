"""A building on real SPIRE: two servers, two agents, federation; visibly skipped where it is not.

What docs/how-to/spire.md tells an operator to do, done; then what SPIRE does by itself or is told
to do later: rotation, agents that die, roots that are replaced, an entry that is deleted.
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from plantroom.certs import workload_ask
from plantroom.lab import people
from plantroom.lab.layout import Layout
from tests.fakes import spire
from tests.fakes.ports import free_ports
from tests.fakes.spire import Spire
from tests.fakes.waiting import until
from tests.fakes.workload_agents import BUILDING, CLOUD
from tests.system.conftest import Building
from tests.system.test_workload_api import ABOVE, BELOW, flows, identities, rotated

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
TTL_S = 60
PATIENCE_S = 120  # agents look every five seconds, and renew near half life
SERVERS = ("agent/gateway", "agent/front")
METER = "energy-001"


@pytest.fixture
def spires() -> Iterator[tuple[Spire, Spire]]:
    """The building's and the cloud's, federated with each other."""
    spire.need()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spire-")))
        port = free_ports(4)
        below, above = (
            stack.enter_context(closing(Spire(name, folder / part, port=port + 2 * number)))
            for number, (name, part) in enumerate(((BUILDING, "b"), (CLOUD, "c")))
        )
        below.start()
        above.start()
        below.federate(above)
        above.federate(below)
        yield below, above


def admit(one: Spire, other: Spire, *paths: str) -> None:
    for path in paths:
        extra = ("-dns", "localhost") if path in SERVERS else ()
        federated = ("-federatesWith", f"spiffe://{other.trust_domain}")
        one.admit(path, *federated, *extra, "-hint", path, ttl_s=TTL_S)


def test_a_building_lives_on_real_spire(building: Building, spires: tuple[Spire, Spire]) -> None:
    below, above = spires
    starts_once_it_is_registered(building, below, above)
    first = identities(building)
    flows(building)
    answer = building.run(
        *("call", "--target", f"spiffe://{BUILDING}/agent/hvac-001"),
        *("--capability", "read_sensors", "--data", "{}"),
    )
    assert answer.returncode == 0, answer.stderr + below.logs()
    below.forget(f"agent/{METER}")  # loses access with its last SVID, while all else goes on
    rotated(building, first, deadline_s=PATIENCE_S)  # at SPIRE's own rhythm

    below.kill_agent()
    above.kill_agent()
    flows(building)
    before = identities(building)
    below.start_agent()
    above.start_agent()
    rotated(building, before, deadline_s=PATIENCE_S)
    roots_are_replaced(building, below, above)
    flows(building)

    until(lambda: not online(building, METER), deadline_s=PATIENCE_S, what="a meter that is out")
    admit(below, above, f"agent/{METER}")
    until(lambda: online(building, METER), deadline_s=PATIENCE_S, what="a meter that is back")
    flows(building, device=METER)

    assert building.run("devices", "revoke", "hvac-001").returncode == 0
    until(lambda: not online(building, "hvac-001"), deadline_s=30, what="a device that is cut off")
    assert building.run("devices", "restore", "hvac-001").returncode == 0
    until(lambda: online(building, "hvac-001"), deadline_s=90, what="a device that is back")
    assert building.stop() == 0
    assert building.run("ledger", "verify").returncode == 0


def starts_once_it_is_registered(building: Building, below: Spire, above: Spire) -> None:
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(
            building.start,
            *("--devices", "3", "--speed", "60", "--identity", "workload-api"),
            *("--building-socket", str(below.socket), "--cloud-socket", f"unix://{above.socket}"),
        )
        for one in (below, above):
            until(one.has_refused, deadline_s=PATIENCE_S, what="a caller without an entry")
        admit(below, above, *BELOW, f"agent/{METER}")
        admit(above, below, *ABOVE)
        ready = starting.result()
    now = identities(building)
    assert now["gateway"]["spiffe_id"] == f"spiffe://{BUILDING}/agent/gateway"
    assert now["uplink"]["spiffe_id"] == f"spiffe://{CLOUD}/gateway/building-1"
    assert set(people.load(Layout(building.state).inspector).bundles) == {BUILDING, CLOUD}
    assert Path(ready["inspector"]["ca"]).read_text().count("BEGIN CERTIFICATE") == 2
    given = workload_ask.svids(above.socket)
    assert [one.hint for one in given.svids] == [
        one.partition(f"{CLOUD}/")[2] for one in given.names
    ]


def roots_are_replaced(building: Building, below: Spire, above: Spire) -> None:
    """Sign with new roots, then take the old ones away: everybody follows, while readings flow."""
    before = identities(building)
    pairs = ((below, above), (above, below))
    for one, other in pairs:
        one.prepare_root()
        other.refresh(one)  # else it could not check the endpoint that the new root vouches for
    for one, _ in pairs:
        one.replace_root()
    rotated(building, before, deadline_s=PATIENCE_S)
    for one, other in pairs:
        one.revoke_root()
        other.refresh(one)
    for one, other in pairs:
        until(
            partial(has_new_roots_alone, one, other),
            deadline_s=PATIENCE_S,
            what="an agent that has both domains' new roots alone",
        )
    inspector = Layout(building.state).inspector
    until(
        lambda: inspector.ca.read_text().count("BEGIN CERTIFICATE") == 2,
        deadline_s=PATIENCE_S,
        what="an inspector who has the new roots alone",
    )


def has_new_roots_alone(one: Spire, other: Spire) -> bool:
    """Say so of what an agent gives: its own domain's roots, and those that federation brings."""
    bundles = workload_ask.bundles(one.socket)
    return all(len(bundles[at.trust_domain].roots_der) == 1 for at in (one, other))


def online(building: Building, name: str) -> bool:
    devices = building.json("devices", "ls", "--json")["devices"]
    return bool(next(one["online"] for one in devices if one["device"] == name))
