"""`plantroom devices ls|revoke|restore`: the fleet."""

import argparse
import string
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import fleet, issuers
from plantroom.lab.building import TRUST_DOMAIN
from plantroom.wire.errors import CheckFailedError, SpiffeIdError
from plantroom.wire.spiffe import SpiffeId

SERIAL_DIGITS_MAX = 40  # RFC 5280 4.1.2.2: 20 bytes
_UNISSUED = {"gateway": "renews its own"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the three."""
    commands = subcommands(parser)
    subcommand(commands, "ls", "list devices with their state", list_devices)
    revoke = subcommand(commands, "revoke", "cut a device off and refuse it", revoke_device)
    revoke.add_argument("--reason", default="operator", help="one word for the record")
    restore = subcommand(commands, "restore", "undo a revocation", restore_device)
    for command in (revoke, restore):
        command.add_argument("device", metavar="ID", type=device_id, help="SPIFFE ID, or hvac-001")
        command.add_argument("--serial", metavar="HEX", type=serial, help="only this SVID of its")
        command.add_argument(
            "--issuer",
            metavar="TRUST_DOMAIN",
            help="who says so: the device's own trust domain, or the cloud's, over the bridge",
        )


def serial(text: str) -> str:
    """Read the serial of a certificate, in hex, with or without colons."""
    digits = text.replace(":", "")
    if not 1 <= len(digits) <= SERIAL_DIGITS_MAX or set(digits) - set(string.hexdigits):
        raise argparse.ArgumentTypeError(f"not a serial in hex: {text[:60]!r}")
    return digits


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
    by_spire = issuers.responsible(layout_of(options), TRUST_DOMAIN).agent is not None
    rows = [
        (
            one["device"],
            one["role"],
            one["status"],
            states[one["online"]],
            "SPIRE renews it" if by_spire else _expires(one),
            one["spiffe_id"],
        )
        for one in found
    ]
    output.table(("DEVICE", "ROLE", "STATUS", "LINK", "SVID EXPIRES", "SPIFFE ID"), rows)
    return 0


def _expires(device: dict[str, Any]) -> str:
    svid = device["svid"]
    return str(svid["not_after"]) if svid else _UNISSUED.get(device["role"], "never issued")


def revoke_device(options: argparse.Namespace) -> int:
    """Revoke."""
    fleet.revoke(
        layout_of(options),
        options.device,
        reason=options.reason,
        serial=options.serial,
        issuer=options.issuer,
    )
    return _say(options, "revoked")


def restore_device(options: argparse.Namespace) -> int:
    """Restore; a device that another issuer has revoked too stays revoked."""
    undone, others = fleet.restore(
        layout_of(options), options.device, serial=options.serial, issuer=options.issuer
    )
    if not undone:
        by = f": {', '.join(others)} did, say --issuer" if others else ""
        raise CheckFailedError(
            f"it is not revoked by this issuer{by}", where=options.serial or str(options.device)
        )
    if others:
        output.note(f"{options.device} is still revoked by {', '.join(others)}")
        return _say(options, "revoked")
    return _say(options, "active")


def _say(options: argparse.Namespace, status: str) -> int:
    only = {} if options.serial is None else {"serial": options.serial}
    if options.json:
        output.document({"spiffe_id": str(options.device), "status": status, **only})
    else:
        what = f"serial {options.serial} of {options.device}" if only else str(options.device)
        output.note(f"{what} is {status}")
    return 0
