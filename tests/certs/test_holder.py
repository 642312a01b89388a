"""The contract of every identity source, over all of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from plantroom.certs import atomic, pem
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource, issue_svid
from plantroom.certs.enrolled import KEY_FILE, SVID_FILE, EnrolledSource, write_bundles
from plantroom.certs.enrolled_async import AsyncEnrolled
from plantroom.certs.enrolment_client import Server
from plantroom.certs.files import FileSource
from plantroom.certs.holder import IdentityHolder, known
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, IdentitySource, Svid
from plantroom.wire.spiffe import SpiffeId

Make = Callable[[Path, Authority, SpiffeId], IdentityHolder]


def embedded(_: Path, authority: Authority, spiffe_id: SpiffeId) -> IdentityHolder:
    return EmbeddedSource(authority, spiffe_id)


def files(folder: Path, authority: Authority, spiffe_id: SpiffeId) -> IdentityHolder:
    svid = issue_svid(authority, spiffe_id, ttl_s=600)
    atomic.write(folder / "svid.pem", svid.chain_pem)
    atomic.write(folder / "key.pem", svid.key_pem)
    atomic.write(folder / "roots.pem", pem.bundle_pem(authority.bundle().roots_der))
    return FileSource(
        chain=folder / "svid.pem",
        key=folder / "key.pem",
        bundles={authority.trust_domain: folder / "roots.pem"},
    )


def enrolled(folder: Path, authority: Authority, spiffe_id: SpiffeId) -> IdentityHolder:
    svid = issue_svid(authority, spiffe_id, ttl_s=600)
    write_bundles(folder, {authority.trust_domain: authority.bundle()})
    atomic.write(folder / SVID_FILE, svid.chain_pem)
    atomic.write(folder / KEY_FILE, svid.key_pem)
    server = Server(host="127.0.0.1", port=1, spiffe_id=spiffe_id)
    return AsyncEnrolled(EnrolledSource(folder, spiffe_id=spiffe_id, server=server))


@pytest.mark.parametrize("make", [embedded, files, enrolled])
def test_every_source_gives_its_identity_and_wakes_whoever_waits(
    make: Make, tmp_path: Path, building: Authority, sensor_id: SpiffeId
) -> None:
    async def scenario() -> None:
        source = make(tmp_path, building, sensor_id)
        first = source.current()
        assert first.svid.spiffe_id == sensor_id
        assert first.bundles[building.trust_domain].roots_der == building.bundle().roots_der
        waiting = await waiters(source, first)
        second = source.publish(first.svid, first.bundles)
        assert await asyncio.wait_for(asyncio.gather(*waiting), 20) == [second] * 3
        assert second.revision > first.revision

    asyncio.run(scenario())


async def waiters(source: IdentitySource, first: Identity) -> list[asyncio.Task[Identity]]:
    assert await asyncio.wait_for(source.changed(0), 20) == first
    waiting = [asyncio.create_task(source.changed(first.revision)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    return waiting


def test_a_source_without_an_svid_says_so_and_can_be_waited_for(
    building: Authority, sensor_id: SpiffeId
) -> None:
    async def scenario() -> None:
        source = IdentityHolder()
        with pytest.raises(IdentityError) as caught:
            source.current()
        assert caught.value.reason == "no-svid"
        waiting = asyncio.create_task(source.changed(0))
        await asyncio.sleep(0)
        source.publish(issue_svid(building, sensor_id, ttl_s=600), {})
        assert (await asyncio.wait_for(waiting, 20)).revision == 1

    asyncio.run(scenario())


class Late(IdentityHolder):
    """Has its SVID after a while, and would run for ever."""

    def __init__(self, svid: Svid) -> None:
        super().__init__()
        self._svid = svid
        self.stopped = False

    async def run(self) -> None:
        try:
            await asyncio.sleep(0)
            self.publish(self._svid, {})
            await asyncio.get_running_loop().create_future()
        finally:
            self.stopped = True


def test_a_source_is_run_until_it_is_known(building: Authority, sensor_id: SpiffeId) -> None:
    async def scenario() -> None:
        source = Late(issue_svid(building, sensor_id, ttl_s=600))
        identity = await asyncio.wait_for(known(source), 20)
        assert identity is source.current()
        assert source.stopped
        assert await known(source) is identity

    asyncio.run(scenario())
