"""An identity from files that another tool rotates."""

import asyncio
import os
from pathlib import Path

import pytest

from plantroom.certs import bundle, pem
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.files import FileSource
from plantroom.wire.errors import IdentityError, PlantroomError, StorageError
from plantroom.wire.identity import Svid
from plantroom.wire.spiffe import SpiffeId


def put(folder: Path, svid: Svid) -> None:
    (folder / "svid.pem").write_bytes(svid.chain_pem)
    (folder / "key.pem").write_bytes(svid.key_pem)


def source(folder: Path, *trust_domains: str, poll_s: float = 5) -> FileSource:
    bundles = {name: folder / f"{name}.bundle" for name in trust_domains}
    return FileSource(
        chain=folder / "svid.pem", key=folder / "key.pem", bundles=bundles, poll_s=poll_s
    )


@pytest.fixture
def folder(tmp_path: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId) -> Path:
    (tmp_path / f"{building.trust_domain}.bundle").write_bytes(
        pem.bundle_pem(building.bundle().roots_der)
    )
    (tmp_path / f"{cloud.trust_domain}.bundle").write_bytes(bundle.to_json(cloud.bundle()))
    put(tmp_path, issue_svid(building, sensor_id, ttl_s=600))
    return tmp_path


def test_pem_and_json_bundles_are_read(
    folder: Path, building: Authority, cloud: Authority, sensor_id: SpiffeId
) -> None:
    identity = source(folder, building.trust_domain, cloud.trust_domain).current()
    assert identity.svid.spiffe_id == sensor_id
    for authority in (building, cloud):
        roots = identity.bundles[authority.trust_domain].roots_der
        assert roots == authority.bundle().roots_der


def test_what_is_new_is_published_while_it_runs(
    folder: Path, building: Authority, sensor_id: SpiffeId
) -> None:
    async def scenario() -> None:
        files = source(folder, building.trust_domain, poll_s=0.02)
        running = asyncio.create_task(files.run())
        new = issue_svid(building, sensor_id, ttl_s=600)
        put(folder, new)
        async with asyncio.timeout(10):
            identity = await files.changed(1)
        running.cancel()
        assert identity.svid.serial == new.serial

    asyncio.run(scenario())


def test_half_a_rotation_is_left_alone_until_it_is_whole(
    folder: Path, building: Authority, sensor_id: SpiffeId, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        files = source(folder, building.trust_domain)
        before = files.current()
        new = issue_svid(building, sensor_id, ttl_s=600)
        (folder / "svid.pem").write_bytes(new.chain_pem)
        assert not await files.refresh()
        (folder / "svid.pem").write_bytes(new.chain_pem[:200])
        assert not await files.refresh()
        assert not await files.refresh()
        (folder / "svid.pem").unlink()
        assert not await files.refresh()
        assert files.current() == before
        assert isinstance(files.last_error, PlantroomError)
        put(folder, new)
        assert await files.refresh()
        assert files.current().svid.serial == new.serial
        assert files.last_error is None
        assert not await files.refresh()

    asyncio.run(scenario())
    assert len(caplog.records) == 3  # each fault once


def test_missing_and_foreign_files_are_named(folder: Path, building: Authority) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.bundle"):
        source(folder, "nowhere")
    (folder / "empty.bundle").write_bytes(b"")
    with pytest.raises(IdentityError) as empty:
        source(folder, "empty")
    both = {building.trust_domain: building.bundle()}
    (folder / "other.bundle").write_bytes(bundle.all_to_json(both))
    with pytest.raises(IdentityError) as other:
        source(folder, "other")
    os.truncate(folder / "key.pem", 10)
    with pytest.raises(IdentityError) as key:
        source(folder, building.trust_domain)
    assert (empty.value.reason, other.value.reason, key.value.reason) == (
        "bad-bundle",
        "no-bundle",
        "bad-key",
    )
