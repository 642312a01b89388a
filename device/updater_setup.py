"""The updater of one device, put together from its settings."""

import time
from collections.abc import Callable
from pathlib import Path

from plantroom.certs import atomic, light_signatures
from plantroom.device.journal import Journal
from plantroom.device.settings import DeviceSettings
from plantroom.device.updater import Updater
from plantroom.device.updater_download import Nature, Patience
from plantroom.device.updater_install import Booted, Installer
from plantroom.device.updater_record import FACTORY, slot_file
from plantroom.device.updater_selftest import SelfTest
from plantroom.device.updater_storage import FolderStorage
from plantroom.device.updater_trial import Trial
from plantroom.device.updater_trusted import Trusted
from plantroom.wire import firmware
from plantroom.wire.clock import Clock
from plantroom.wire.cose import DOCUMENT_BYTES_MAX
from plantroom.wire.errors import ConfigError, RejectedError, StorageCorruptError
from plantroom.wire.suit_commands import Target

TRUST_FILE = "ota-trust.cbor"
MakeInstaller = Callable[[DeviceSettings, FolderStorage], Installer]


def set_up(
    settings: DeviceSettings,
    make_installer: MakeInstaller,
    *,
    clock: Clock,
    journal: Journal,
    restart: Callable[[str], None],
) -> Updater | None:
    """Count this boot and make the updater; None where the device was given nothing to trust.

    Raises:
        ConfigError: when the trust document is none.
        StorageError: when the folder cannot be used.
    """
    updates = settings.updates
    path = Path(updates.trust_file) if updates.trust_file else settings.state / TRUST_FILE
    anchor = atomic.read(path, bytes_max=DOCUMENT_BYTES_MAX)
    if anchor is None:
        journal.info(f"updates are off: there is no {path}")
        return None
    storage = FolderStorage(settings.state / "firmware", spare_bytes=updates.spare_bytes)
    try:
        installer = make_installer(settings, storage)
    except StorageCorruptError as error:  # the readings go on; what was refused stays unknown
        journal.error(f"updates are off: {error}")
        return None
    target = _target(settings)
    trusted = _trusted(storage, anchor, target, str(path))
    booted = installer.boot()
    journal.info(f"firmware {booted.image.version}{' on trial' if booted.on_trial else ''}")
    return Updater(
        Nature(
            site=settings.site,
            device=settings.agent.name,
            class_name=settings.class_name,
            class_id=target.class_id,
            patience=Patience(window=updates.window, failures_max=updates.failures_max),
            retry_s=updates.retry_s,
        ),
        trusted=trusted,
        installer=installer,
        booted=booted,
        trial=_trial(booted, installer, storage, updates.health_s, restart),
        storage=storage,
        clock=clock,
        journal=journal,
        restart=restart,
    )


def _target(settings: DeviceSettings) -> Target:
    vendor_id, class_id = firmware.class_id(settings.updates.vendor, settings.class_name)
    device_id = firmware.device_id(vendor_id, str(settings.spiffe_id))
    return Target(vendor_id=vendor_id, class_id=class_id, device_id=device_id)


def _trusted(storage: FolderStorage, anchor: bytes, target: Target, where: str) -> Trusted:
    try:
        return Trusted(storage, anchor, target=target, verify=light_signatures.verify)
    except RejectedError as error:
        raise ConfigError(
            f"no trust document ({error.code}): {error}",
            where=where,
            remedy="give the document that `plantroom ota trust` made",
        ) from error


def _trial(
    booted: Booted,
    installer: Installer,
    storage: FolderStorage,
    health_s: float,
    restart: Callable[[str], None],
) -> Trial | None:
    if not booted.on_trial:
        return None
    slot = booted.image.slot
    test = SelfTest(storage.path(slot_file(slot) if slot != FACTORY else ""))
    return Trial(installer, test, deadline_s=time.monotonic() + health_s, restart=restart)
