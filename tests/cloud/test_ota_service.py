"""The update service on the real broker: an operator publishes, and the head comes back."""

import asyncio
import contextlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from plantroom.certs import signatures
from plantroom.cloud import ota_service
from plantroom.cloud.ota import Updates
from plantroom.cloud.settings import OtaSection
from plantroom.wire import head
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import ConfigError, StorageCorruptError, StorageFullError
from plantroom.wire.spiffe import SpiffeId
from tests.cloud.test_service_link import serving
from tests.fakes.ota_author import Author, read
from tests.fakes.ota_cloud import SITE, OtaCloud, manifest, upload

WAIT_S = 60.0


def test_a_published_manifest_is_answered_by_a_head(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)

    async def scenario() -> None:
        heads: asyncio.Queue[bytes] = asyncio.Queue()
        async with serving(tmp_path, ota_service.filters()) as (broker, link):
            broker.watch(f"v1/{SITE}/ota/head", lambda said, _: heads.put_nowait(said.payload))
            with cloud.opened() as updates:
                running = asyncio.create_task(ota_service.run(updates, link))
                try:
                    async with asyncio.timeout(WAIT_S):
                        published = manifest(cloud.author)
                        assert await broker.publish(published, publisher="test") == 0
                        said = await heads.get()
                finally:
                    running.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await running
        assert read(published.payload).digest in {
            pin.digest for pin in head.read(said)[0].classes.values()
        }

    asyncio.run(scenario())


def test_images_of_releases_that_a_head_names_are_kept(tmp_path: Path) -> None:
    cloud = OtaCloud(tmp_path)
    first, second = cloud.author.manifest(10), cloud.author.manifest(11, b"2" * 5000)

    async def scenario() -> None:
        with cloud.opened() as updates:
            keep = ota_service.current(updates.sites)
            await updates.take([manifest(cloud.author), *upload(cloud.author)])
            assert keep(read(first).image)
            await updates.take([manifest(cloud.author, sequence=11, image=b"2" * 5000)])
            assert keep(read(second).image)
            assert not keep(read(first).image)
            assert list(updates.sites) == [SITE]

    asyncio.run(scenario())


def test_nothing_of_an_image_touches_the_brokers_disk() -> None:
    assert ota_service.VOLATILE == ("v1/+/ota/+/chunk/+", "v1/+/fw/+/+", "v1/+/ota/+/get")


async def nobody(_site: str, _device: str) -> str:
    return ""


def opened(folder: Path, **given: Any) -> AbstractContextManager[Updates | None]:
    return ota_service.opened(
        OtaSection(**given),
        folder,
        issuer=SpiffeId.parse("spiffe://smart-building.cloud/agent/ota"),
        standing=nobody,
        clock=SystemClock(),
    )


def test_without_a_trust_document_there_are_no_updates(tmp_path: Path) -> None:
    with opened(tmp_path / "ota") as updates:
        assert updates is None
    assert not (tmp_path / "ota").exists()


def test_it_is_opened_from_its_files(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    author = Author()
    author.heads = [signatures.signer(key)]
    (tmp_path / "trust.cbor").write_bytes(author.trust())
    (tmp_path / "head.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    async def scenario() -> None:
        with opened(tmp_path) as updates:
            assert updates is not None
            await updates.restore()
            (said,) = await updates.take([manifest(author)])
            assert said.topic.endswith("/ota/head")

    asyncio.run(scenario())


def test_a_disk_that_is_full_for_a_while_delays_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = OtaCloud(tmp_path)
    monkeypatch.setattr(ota_service, "_TROUBLE_S", 0.01)
    failures = iter([StorageFullError("no space left")] * 3)

    async def scenario() -> None:
        heads: asyncio.Queue[bytes] = asyncio.Queue()
        async with serving(tmp_path, ota_service.filters()) as (broker, link):
            broker.watch(f"v1/{SITE}/ota/head", lambda said, _: heads.put_nowait(said.payload))
            with cloud.opened(Updates) as updates:
                keep = updates.registry.keep

                async def full(**what: Any) -> None:
                    error = next(failures, None) if what["sites"] else None
                    if error is not None:
                        raise error
                    await keep(**what)

                monkeypatch.setattr(updates.registry, "keep", full)
                running = asyncio.create_task(ota_service.run(updates, link))
                try:
                    async with asyncio.timeout(WAIT_S):
                        await broker.publish(manifest(cloud.author), publisher="test")
                        assert head.read(await heads.get())[0].version == 1
                finally:
                    running.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await running
                assert next(failures, None) is None
                assert SITE in (await updates.registry.known()).sites

    asyncio.run(scenario())


def test_a_damaged_registry_is_named_so_that_it_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "trust.cbor").write_bytes(Author().trust())
    path = tmp_path / ota_service.REGISTRY
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageCorruptError) as raised, opened(tmp_path):
        pass
    assert raised.value.where == str(path)


@pytest.mark.parametrize("which", ["trust_file", "head_key_file"])
def test_a_file_that_is_not_what_it_should_be_is_named(which: str, tmp_path: Path) -> None:
    (tmp_path / "trust.cbor").write_bytes(Author().trust())
    with (
        pytest.raises(ConfigError, match=f"no such file.*{which}"),
        opened(tmp_path, **{which: str(tmp_path / "none")}),
    ):
        pass
    (tmp_path / "junk").write_bytes(b"junk")
    with (
        pytest.raises(ConfigError, match="updates cannot be served"),
        opened(tmp_path, **{which: str(tmp_path / "junk")}),
    ):
        pass
