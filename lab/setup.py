"""Set a state folder up, so that its processes can start: identities, then configurations."""

from plantroom.lab import configs, identities, ota_keys, workload
from plantroom.lab.building import Device
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from plantroom.lab.workload import sockets_of


def prepare(layout: Layout, flags: Flags, devices: tuple[Device, ...]) -> frozenset[str]:
    """Make what is missing, renew what is due; return the names of the devices that may join."""
    layout.log("up").parent.mkdir(parents=True, exist_ok=True)
    prepare_identities = identities.prepare if sockets_of(flags) is None else workload.prepare
    admitted = prepare_identities(layout, devices)
    configs.prepare(layout, flags, devices)
    ota_keys.prepare(layout, devices)
    return admitted
