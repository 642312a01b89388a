"""`plantroom devices ls|revoke|restore`: the fleet."""

import argparse

from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import fleet
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire.errors import CheckFailedError, SpiffeIdError
from plantroom.wire.spiffe import SpiffeId

_UNISSUED = {"gateway": "renews its own"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the three."""
    commands = subcommands(parser)
    subcommand(commands, "ls", "list devices with their state", list_devices)
    revoke = subcommand(commands, "revoke", "cut a device off and refuse it", revoke_device)
    revoke.add_argument("device", metavar="ID", type=device_id, help="SPIFFE ID, or hvac-001")
    revoke.add_argument("--reason", default="operator", help="one word for the record")
    restore = subcommand(commands, "restore", "undo a revocation", restore_device)
    restore.add_argument("device", metavar="ID", type=device_id, help="SPIFFE ID, or hvac-001")


def device_id(text: str) -> SpiffeId:
    """Read a SPIFFE ID, or a device's name in the building of this state folder."""
    try:
        if text.startswith("spiffe://"):
            return SpiffeId.parse(text)
        return SpiffeId.parse(f"spiffe://{TRUST_DOMAIN}/agent/{text}")
    except SpiffeIdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def list_devices(options: argparse.Namespace) -> int:
    """Print the fleet."""
    found = fleet.devices(layout_of(options))
    if options.json:
        output.document({"devices": found})
        return 0
    states = {None: "unknown", True: "online", False: "offline"}
    rows = [
        (
            one["device"],
            one["role"],
            one["status"],
            states[one["online"]],
            one["svid"]["not_after"] if one["svid"] else _UNISSUED.get(one["role"], "never issued"),
            one["spiffe_id"],
        )
        for one in found
    ]
    output.table(("DEVICE", "ROLE", "STATUS", "LINK", "SVID EXPIRES", "SPIFFE ID"), rows)
    return 0


def revoke_device(options: argparse.Namespace) -> int:
    """Revoke."""
    fleet.revoke(layout_of(options), options.device, reason=options.reason)
    return _say(options, "revoked")


def restore_device(options: argparse.Namespace) -> int:
    """Restore."""
    if not fleet.restore(layout_of(options), options.device):
        raise CheckFailedError("it is not revoked", where=str(options.device))
    return _say(options, "active")


def _say(options: argparse.Namespace, status: str) -> int:
    if options.json:
        output.document({"spiffe_id": str(options.device), "status": status})
    else:
        output.note(f"{options.device} is {status}")
    return 0
