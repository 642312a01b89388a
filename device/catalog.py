"""Every driver and every source of identities that a configuration can name."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from plantroom.certs import attestors
from plantroom.certs.enrolled import TOKEN_FILE, EnrolledSource
from plantroom.certs.enrolment_client import Server
from plantroom.certs.workload_feed import WorkloadFeed
from plantroom.certs.workload_stream import ENDPOINT_VARIABLE, owners_of, socket_path
from plantroom.device.driver import Driver
from plantroom.device.drivers import replay, simulated
from plantroom.device.identity import PemFiles, SvidSource
from plantroom.device.settings import DeviceSettings, host_port
from plantroom.device.updater_command import CommandInstaller, Commands
from plantroom.device.updater_install import Installer
from plantroom.device.updater_slots import Slots
from plantroom.device.updater_storage import FolderStorage
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError
from plantroom.wire.spiffe import SpiffeId

Report = Callable[[str], None]
MakeInstaller = Callable[[DeviceSettings, FolderStorage], Installer]
MakeDriver = Callable[[DeviceSettings, Clock, Report], Driver]
MakeSource = Callable[[DeviceSettings, Clock], SvidSource]


def _enrolled(settings: DeviceSettings, clock: Clock) -> SvidSource:
    identity = settings.identity
    host, port = host_port(identity.enrol_address, "identity.enrol_address")
    folder = settings.state / "identity"
    return EnrolledSource(
        folder,
        spiffe_id=settings.spiffe_id,
        server=Server(host=host, port=port, spiffe_id=SpiffeId.parse(identity.gateway_id)),
        attestor=attestors.choose(
            identity.attestor,
            token_file=Path(identity.join_token_file or folder / TOKEN_FILE),
            spiffe_id=settings.spiffe_id,
            tpm=identity.tpm,
            tpm_ek=identity.tpm_ek,
        ),
        bundle_file=Path(identity.bundle_file) if identity.bundle_file else None,
        clock=clock,
    )


def _files(settings: DeviceSettings, _clock: Clock) -> SvidSource:
    identity = settings.identity
    for key in ("chain_file", "key_file", "bundle_file"):
        if not getattr(identity, key):
            raise ConfigError(f"identity.{key} is empty", remedy="provider files needs all three")
    return PemFiles(
        chain=Path(identity.chain_file),
        key=Path(identity.key_file),
        bundle_file=Path(identity.bundle_file),
        trust_domain=SpiffeId.parse(identity.gateway_id).trust_domain,
    )


def _workload(settings: DeviceSettings, _clock: Clock) -> SvidSource:
    identity = settings.identity
    address = identity.workload_api or os.environ.get(ENDPOINT_VARIABLE, "")
    owners = owners_of(identity.workload_owner)
    return WorkloadFeed(socket_path(address), settings.spiffe_id, owners=owners)


def _slots(settings: DeviceSettings, storage: FolderStorage) -> Installer:
    updates = settings.updates
    return Slots(
        storage,
        version=updates.factory_version,
        sequence=updates.factory_sequence,
        boots=updates.boots,
        where=str(storage.path("")),
    )


def _command(settings: DeviceSettings, storage: FolderStorage) -> Installer:
    updates = settings.updates
    commands = Commands(
        install=updates.install_command,
        running=updates.running_command,
        good=updates.good_command,
        bad=updates.bad_command,
    )
    return CommandInstaller(
        storage,
        commands,
        version=updates.factory_version,
        sequence=updates.factory_sequence,
        boots=updates.boots,
        path=storage.path,
    )


INSTALLERS: Mapping[str, MakeInstaller] = {"slots": _slots, "command": _command}
DRIVERS: Mapping[str, MakeDriver] = {"simulated": simulated.make, "replay": replay.make}
IDENTITIES: Mapping[str, MakeSource] = {
    "enrol": _enrolled,
    "files": _files,
    "workload-api": _workload,
}


def driver(settings: DeviceSettings, clock: Clock, report: Report) -> Driver:
    """Make the driver that the settings name."""
    return DRIVERS[settings.sampling.driver](settings, clock, report)


def identity_source(settings: DeviceSettings, clock: Clock) -> SvidSource:
    """Make the source of identities that the settings name.

    Raises:
        ConfigError: when what it needs is not set.
    """
    return IDENTITIES[settings.identity.provider](settings, clock)


def installer(settings: DeviceSettings, storage: FolderStorage) -> Installer:
    """Make the installer that the settings name.

    Raises:
        StorageError: when its record is damaged or cannot be read.
    """
    return INSTALLERS[settings.updates.installer](settings, storage)
