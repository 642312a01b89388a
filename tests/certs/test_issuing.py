"""What an issuer of one's own offers, and that another one's offers nothing."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from plantroom.certs import issuing, workload_ask
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.certs.registry import Registry
from plantroom.certs.time_floor import TimeFloor
from plantroom.wire.clock import SystemClock
from plantroom.wire.spiffe import SpiffeId


@dataclass(frozen=True)
class Section:
    workload_socket: str = ""
    enrol_host: str = "127.0.0.1"
    enrol_port: int = 0
    late_s_max: int = 600
    tpm_ca_file: str = ""
    tpm_pcrs: tuple[int, ...] = (0,)


async def quiet(_rule: str, _spiffe_id: SpiffeId, _text: str) -> None:
    """Hear of no alarm."""


@pytest.mark.parametrize("served", [False, True])
def test_enrolment_is_offered_and_the_workload_api_where_it_is_wanted(  # noqa: PLR0913, PLR0917 -- fixtures
    tmp_path: Path,
    building: Authority,
    registry: Registry,
    gateway_id: SpiffeId,
    sensor_id: SpiffeId,
    served: bool,  # noqa: FBT001 -- both ways
) -> None:
    path = tmp_path / "w.sock"

    async def scenario() -> None:
        source, floor = EmbeddedSource(building, gateway_id), TimeFloor(SystemClock())
        section = Section(workload_socket=str(path) if served else "")
        async with issuing.opened(building, registry, [source], section, clock=floor) as made:
            assert await made.start()
            running = asyncio.create_task(made.run(quiet))
            if served:
                registry.create(sensor_id)
                async with asyncio.timeout(20):
                    while not path.exists():  # noqa: ASYNC110 -- the loop of the file system
                        await asyncio.sleep(0.01)
                assert (await asyncio.to_thread(workload_ask.svids, path)).names == ()
            names = {one.name for one in made.metrics()}
            assert "plantroom_enrolment_granted_total" in names
            assert ("plantroom_workload_connections" in names) is served
            running.cancel()
            await asyncio.wait([running])
        assert not path.exists()

    asyncio.run(scenario())


def test_where_somebody_else_is_the_issuer_nothing_is_offered(
    registry: Registry, building: Authority, gateway_id: SpiffeId
) -> None:
    async def scenario() -> None:
        source, floor = EmbeddedSource(building, gateway_id), TimeFloor(SystemClock())
        async with issuing.opened(None, registry, [source], Section(), clock=floor) as made:
            assert await made.start() is None
            names = {one.name for one in made.metrics()}
            assert "plantroom_svids_overdue" in names  # watched, whoever issues
            assert not any("enrolment" in name or "workload" in name for name in names)

    asyncio.run(scenario())
