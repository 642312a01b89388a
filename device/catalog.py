"""Every driver and every source of identities that a configuration can name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from plantroom.certs.enrolled import EnrolledSource
from plantroom.certs.enrolment_client import Server
from plantroom.device.driver import Driver
from plantroom.device.drivers import replay, simulated
from plantroom.device.identity import PemFiles, SvidSource
from plantroom.device.settings import DeviceSettings, host_port
from plantroom.wire.clock import Clock
from plantroom.wire.errors import ConfigError
from plantroom.wire.spiffe import SpiffeId

Report = Callable[[str], None]
MakeDriver = Callable[[DeviceSettings, Clock, Report], Driver]
MakeSource = Callable[[DeviceSettings, Clock], SvidSource]


def _enrolled(settings: DeviceSettings, clock: Clock) -> SvidSource:
    identity = settings.identity
    host, port = host_port(identity.enrol_address, "identity.enrol_address")
    return EnrolledSource(
        settings.state / "identity",
        spiffe_id=settings.spiffe_id,
        server=Server(host=host, port=port, spiffe_id=SpiffeId.parse(identity.gateway_id)),
        token_file=Path(identity.join_token_file) if identity.join_token_file else None,
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


DRIVERS: Mapping[str, MakeDriver] = {"simulated": simulated.make, "replay": replay.make}
IDENTITIES: Mapping[str, MakeSource] = {"enrol": _enrolled, "files": _files}


def driver(settings: DeviceSettings, clock: Clock, report: Report) -> Driver:
    """Make the driver that the settings name."""
    return DRIVERS[settings.sampling.driver](settings, clock, report)


def identity_source(settings: DeviceSettings, clock: Clock) -> SvidSource:
    """Make the source of identities that the settings name.

    Raises:
        ConfigError: when it is not part of this version.
    """
    make = IDENTITIES.get(settings.identity.provider)
    if make is None:
        raise ConfigError(
            f"identity.provider {settings.identity.provider!r} is not part of this version",
            remedy=f"write one of {', '.join(IDENTITIES)}",
        )
    return make(settings, clock)
