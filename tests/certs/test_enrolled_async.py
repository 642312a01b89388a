"""An enrolled identity in an asyncio process: enrols when it can, renews while it runs."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import attestation
from plantroom.certs.authority import Authority
from plantroom.certs.enrolled import EnrolledSource, write_bundles, write_token
from plantroom.certs.enrolled_async import AsyncEnrolled
from plantroom.certs.registry import Registry
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId

Open = Callable[..., AbstractContextManager[Any]]


def test_it_enrols_renews_and_publishes_each(
    enrolment: Open, registry: Registry, building: Authority, tmp_path: Path, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id, ttl_s=2)
    folder = tmp_path / "identity"
    write_bundles(folder, {building.trust_domain: building.bundle()})
    write_token(folder, registry.token_create(sensor_id))

    async def scenario(server: Any) -> list[str]:
        source = AsyncEnrolled(EnrolledSource(folder, spiffe_id=sensor_id, server=server))
        with pytest.raises(IdentityError):
            source.current()
        running = asyncio.create_task(source.run())
        serials: list[str] = []
        async with asyncio.timeout(20):
            while len(serials) < 3:
                identity = await source.changed(len(serials))
                serials.append(identity.svid.serial)
        running.cancel()
        return serials

    with enrolment() as port:
        serials = asyncio.run(scenario(port.address))
    assert len(set(serials)) == 3


class SaidSomething(logging.Handler):
    """Sets its event at the first line."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()

    def emit(self, _: logging.LogRecord) -> None:
        self.event.set()


def test_a_token_that_comes_later_is_found(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    building: Authority,
    tmp_path: Path,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sensor_id = SpiffeId.parse("spiffe://building-1.smart.local/agent/hvac-001")
    registry.create(sensor_id)
    folder = tmp_path / "identity"
    write_bundles(folder, {building.trust_domain: building.bundle()})

    async def scenario(server: Any) -> None:
        source = AsyncEnrolled(EnrolledSource(folder, spiffe_id=sensor_id, server=server))
        logger = logging.getLogger("plantroom.certs.enrolled")
        said = SaidSomething()
        logger.addHandler(said)
        running = asyncio.create_task(source.run())
        async with asyncio.timeout(20):
            await said.event.wait()
            write_token(folder, registry.token_create(sensor_id))
            await source.changed(0)
        running.cancel()
        logger.removeHandler(said)

    with (
        attestation.opened(registry, ca_file="", pcrs=[0], clock=clock) as attests,
        enrolment(attestation=attests) as port,
    ):
        asyncio.run(scenario(port.address))
    assert "no join token" in caplog.text
