"""The update service at work: its place on the front broker, its turns, what it keeps."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NoReturn

from plantroom.certs import atomic, signatures
from plantroom.cloud import ota, ota_images, ota_sites
from plantroom.cloud.ota import Updates
from plantroom.cloud.ota_calls import OtaCalls, Standing
from plantroom.cloud.ota_images import OtaImages
from plantroom.cloud.ota_registry import OtaRegistry
from plantroom.cloud.ota_sites import Sites
from plantroom.cloud.service_link import ServiceLink
from plantroom.cloud.settings import OtaSection
from plantroom.wire import calls, damage, topics
from plantroom.wire.clock import Clock
from plantroom.wire.errors import (
    ConfigError,
    PlantroomError,
    StorageCorruptError,
    StorageError,
)
from plantroom.wire.firmware import Release
from plantroom.wire.image_store import ImageStore
from plantroom.wire.metrics import Metric
from plantroom.wire.spiffe import SpiffeId
from plantroom.wire.topics import CLOUD_SITE

VOLATILE: Final = (  # what travels with images never touches the broker's disk
    topics.subscription(ota_images.CHUNK_PATTERN, "+"),
    topics.subscription(ota.UPLOAD_PATTERN, "+"),
    topics.subscription(ota.GET_PATTERN, "+"),
)
REGISTRY: Final = "registry.db"
_log = logging.getLogger("plantroom.cloud.ota")
_TICK_S: Final = 1.0
_TROUBLE_S: Final = 2.0
_GROUP_MAX: Final = 64
_FILE_BYTES_MAX: Final = 64 * 1024


@contextlib.contextmanager
def opened(
    section: OtaSection, folder: Path, *, issuer: SpiffeId, standing: Standing, clock: Clock
) -> Iterator[Updates | None]:
    """Open what the service needs in a folder; None where nobody has set updates up.

    Raises:
        ConfigError: when trust document or head key are not what they should be.
        StorageCorruptError: when the registry is damaged; without it, releases and devices are
            learned again from what the broker retains, and campaigns have to be begun again.
    """
    anchor = _read(section.trust_file, folder / "trust.cbor", "ota.trust_file")
    if anchor is None:
        yield None
        return
    key = _read(section.head_key_file, folder / "head.pem", "ota.head_key_file")
    with contextlib.ExitStack() as stack:
        sites = _sites(anchor, key, section, issuer)
        atomic.make_private_folder(folder)
        damage.check(folder / REGISTRY)
        registry = OtaRegistry(folder / REGISTRY)
        stack.callback(registry.close)
        store = ImageStore(folder / "images", bytes_max=section.images_bytes_max)
        images = OtaImages(store, find=sites.of_image, keep=current(sites))
        stack.callback(images.close)
        updates = Updates(sites, images, registry, clock)
        updates.answer = OtaCalls(updates, standing).answer
        yield updates


def _read(given: str, usual: Path, key: str) -> bytes | None:
    path = Path(given) if given else usual
    data = atomic.read(path, bytes_max=_FILE_BYTES_MAX)
    if data is None and given:
        raise ConfigError("there is no such file", where=f"{key} {given}")
    return data


def _sites(anchor: bytes, key: bytes | None, section: OtaSection, issuer: SpiffeId) -> Sites:
    try:
        signer = None if key is None else signatures.signer(signatures.load_key(key))
        return Sites(
            anchor,
            verify=signatures.verify,
            signer=signer,
            issuer=str(issuer),
            expires_s=section.head_life_s,
        )
    except PlantroomError as error:
        raise ConfigError(
            f"updates cannot be served: {error}",
            where="ota.trust_file, ota.head_key_file",
            remedy="make them with plantroom ota key and plantroom ota trust",
        ) from error


def filters() -> list[str]:
    """Return what the service subscribes to: trust documents before what they vouch for."""
    return [
        topics.subscription(ota_sites.TRUST_PATTERN, "+"),
        topics.subscription(ota_sites.HEAD_PATTERN, "+"),
        topics.subscription(ota_sites.MANIFEST_PATTERN, "+"),
        topics.subscription(ota.STATE_PATTERN, "+"),
        topics.subscription(ota.ASSIGN_PATTERN, "+"),
        topics.subscription(ota.GET_PATTERN, "+"),
        topics.subscription(ota.PRESENCE_PATTERN, "+"),
        topics.subscription(ota.UPLOAD_PATTERN, CLOUD_SITE),
        topics.subscription(calls.PATTERN, "+", ota.CLIENT_ID),
    ]


async def run(updates: Updates, link: ServiceLink) -> None:
    """Serve for ever: messages as they come, time as it passes."""
    turn = asyncio.Lock()

    async def listen() -> NoReturn:
        await link.publish(updates.standing())
        while True:
            messages = await link.take(_GROUP_MAX)
            async with turn:
                said = await updates.take(messages)
                await _written(updates)
            await link.publish(said)

    async def tick() -> NoReturn:
        while True:
            await asyncio.sleep(_TICK_S)
            async with turn:
                said = await updates.tick()
                await _written(updates)
            await link.publish(said)

    await link.run(listen, tick)


async def _written(updates: Updates) -> None:
    """Write what has changed, as often as it takes: nothing is said that is not on the disk."""
    trouble = ""
    while True:
        try:
            return await updates.flush()
        except StorageCorruptError:
            raise  # whoever opened the registry sets it aside
        except StorageError as error:
            if str(error) != trouble:
                trouble = str(error)
                _log.error("nothing written, nothing said: %s", trouble)
            await asyncio.sleep(_TROUBLE_S)


def current(sites: Sites) -> Callable[[str], bool]:
    """Return whether an image belongs to a release that a head names: such images stay."""

    def keep(image: str) -> bool:
        return any(release.image == image for site in sites for release in _named(sites, site))

    return keep


def _named(sites: Sites, site: str) -> Iterable[Release]:
    documents = sites.documents(site)
    if documents.head is not None:
        for pin in documents.head.classes.values():
            if pin.digest in documents.releases:
                yield documents.releases[pin.digest]


def metrics(updates: Updates) -> list[Metric]:
    """Give its figures."""
    running = sum(one.standing == "running" for one in updates.campaigns.values())
    return [
        Metric(
            "plantroom_ota_refused_total",
            "counter",
            "Documents and messages of updates that were refused.",
            updates.refused,
        ),
        Metric(
            "plantroom_ota_chunks_served_total",
            "counter",
            "Chunks of images given to gateways.",
            updates.images.served,
        ),
        Metric("plantroom_ota_campaigns_running", "gauge", "Campaigns at work.", running),
    ]
