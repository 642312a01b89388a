"""An issuer in a process of its own: `python -m tests.bench.issuing.server FOLDER PORT`.

The product's enrolment port and Workload API, without the limit on how often one address may ask:
the load comes from one. The folder gets the Workload API's socket `api.sock`, and `issuer.json`:
bundles, and a join token for each sensor.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import uvloop

from plantroom.certs import bundle
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.enrolment_server import EnrolmentServer
from plantroom.certs.https import HttpsLimits
from plantroom.certs.registry import Registry
from plantroom.certs.workload_offers import Offers
from plantroom.certs.workload_server import WorkloadServer
from plantroom.wire.clock import SystemClock
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.issuer import BUILDING

SENSORS = 16
GATEWAY = SpiffeId(BUILDING, "agent/gateway")
SOCKET, FACTS = "api.sock", "issuer.json"
_LIMITS = HttpsLimits(connections_per_address_per_s=1e6, connections_per_address_burst=1_000_000)


def sensor(number: int) -> SpiffeId:
    """Return the ID of a sensor."""
    return SpiffeId(BUILDING, f"agent/hvac-{number:03d}")


async def serve(folder: Path, port: int) -> None:
    """Serve until cancelled."""
    authority = Authority.open(folder / "authority", BUILDING, clock=SystemClock())
    registry = Registry.open(folder / "registry.db")
    source = EmbeddedSource(authority, GATEWAY)
    tokens = {}
    for number in range(SENSORS):
        selectors = (f"unix:uid:{os.getuid()}",) if number == 0 else ()
        registry.create(sensor(number), selectors=selectors)
        tokens[str(sensor(number))] = registry.token_create(sensor(number))
    facts = {"bundles": bundle.all_to_json({BUILDING: authority.bundle()}).decode()}
    (folder / FACTS).write_text(json.dumps(facts | {"tokens": tokens}))
    workload = WorkloadServer(Offers(authority, registry, source), folder / SOCKET)
    async with (
        EnrolmentServer(authority, registry, source, limits=_LIMITS) as enrolment,
        asyncio.TaskGroup() as tasks,
    ):
        listening = asyncio.Event()
        tasks.create_task(workload.run(listening=listening.set))
        await listening.wait()
        await enrolment.start("127.0.0.1", port)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
