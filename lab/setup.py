"""Set a state folder up, so that its processes can start: identities, then configurations."""

from plantroom.lab import configs, identities
from plantroom.lab.building import Device
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout


def prepare(layout: Layout, flags: Flags, devices: tuple[Device, ...]) -> frozenset[str]:
    """Make what is missing, renew what is due; return the names of the devices that may join."""
    layout.log("up").parent.mkdir(parents=True, exist_ok=True)
    admitted = identities.prepare(layout, devices)
    configs.prepare(layout, flags, devices)
    return admitted
