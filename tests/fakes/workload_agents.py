"""Two SPIFFE Workload APIs in one process, federated with each other: SPIRE's agents, as played.

`python -m tests.fakes.workload_agents STATE BUILDING_SOCKET CLOUD_SOCKET`. A test makes and deletes
entries by opening the registries under STATE, as `spire-server entry` would; the process may be
killed and started again.
"""

import asyncio
import sys
from pathlib import Path

from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.registry import Registry
from plantroom.certs.workload_offers import Offers
from plantroom.certs.workload_server import WorkloadServer
from plantroom.wire.clock import SystemClock
from plantroom.wire.spiffe import SpiffeId

BUILDING, CLOUD = "building-1.smart.local", "smart-building.cloud"
BUNDLE_S = 0.5


def authority(state: Path, trust_domain: str) -> Authority:
    return Authority.open(state / trust_domain / "authority", trust_domain, clock=SystemClock())


def registry(state: Path, trust_domain: str) -> Registry:
    return Registry.open(state / trust_domain / "registry.db", cloud_trust_domain=CLOUD)


async def main(state: Path, building: Path, cloud: Path) -> None:
    authorities = {name: authority(state, name) for name in (BUILDING, CLOUD)}
    sources = {
        name: EmbeddedSource(
            one,
            SpiffeId(name, "agent/agent"),
            bundles={o: authorities[o].bundle() for o in authorities},
        )
        for name, one in authorities.items()
    }
    async with asyncio.TaskGroup() as tasks:
        for name, path in ((BUILDING, building), (CLOUD, cloud)):
            offers = Offers(authorities[name], registry(state, name), sources[name])
            tasks.create_task(WorkloadServer(offers, path).run())
            tasks.create_task(sources[name].run())
        while True:  # as SPIRE's servers refresh the bundles of each other
            await asyncio.sleep(BUNDLE_S)
            for one in authorities.values():
                one.refresh()
            for name, source in sources.items():
                for other in authorities.values():
                    if other.trust_domain != name:
                        source.set_bundle(other.bundle())


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:])))
