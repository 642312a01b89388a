"""`plantroom broker run|sessions|kick|retained|prune`: run a broker alone, look after one."""

import argparse
from operator import itemgetter
from pathlib import Path
from typing import Any

from plantroom.cli import output, process
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import broker_admin
from plantroom.lab.broker_admin import Place
from plantroom.wire import rfc3339
from plantroom.wire.errors import CheckFailedError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them all."""
    commands = subcommands(parser)
    process.add_run(commands, "broker")
    where(subcommand(commands, "sessions", "list sessions, connected or not", sessions))
    kick_parser = subcommand(commands, "kick", "close connections; sessions stay", kick)
    kick_parser.add_argument("who", metavar="SPIFFE_ID|CLIENT_ID", help="whose connections")
    where(kick_parser)
    everything = subcommand(commands, "retained", "list retained messages", list_retained)
    everything.set_defaults(filter="#")
    where(everything)
    retained = subcommands(everything, required=False)
    listing = subcommand(retained, "ls", "list retained messages", list_retained)
    listing.add_argument("filter", metavar="FILTER", nargs="?", default="#", help="else all")
    where(listing)
    for group in (retained, commands):
        prune = subcommand(group, "prune", "forget retained messages; nobody is told", forget)
        prune.add_argument("filter", metavar="FILTER", help="a topic, or a filter")
        where(prune)


def where(parser: argparse.ArgumentParser) -> None:
    """Say which broker is meant."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--at",
        choices=broker_admin.BUILDING_BROKERS,
        default="gateway",
        help="which broker of the building in the state folder",
    )
    group.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration of a broker that runs alone"
    )


def place_of(options: argparse.Namespace) -> Place:
    """Return where the broker is that is meant."""
    if options.config is not None:
        return broker_admin.place_of_config(options.config)
    return broker_admin.place_in_building(layout_of(options), options.at)


def look(
    options: argparse.Namespace, what: str, about: str = ""
) -> tuple[bool, list[dict[str, Any]]]:
    """Ask the broker or read its database, and say so if it is the database."""
    running, rows = broker_admin.look(place_of(options), what, about)
    if not running:
        output.note("no broker runs there: this is what its database holds")
    return running, rows


def sessions(options: argparse.Namespace) -> int:
    """Print every session."""
    running, rows = look(options, "sessions")
    if options.json:
        output.document({"running": running, "sessions": rows})
        return 0
    output.table(
        ("CLIENT ID", "LINK", "FROM", "SUBSCRIPTIONS", "QUEUED BYTES", "IN FLIGHT", "SPIFFE ID"),
        [
            (
                row["client_id"],
                "online" if row["connected"] else "away",
                row["address"],
                len(row["subscriptions"]),
                row["queued_bytes"],
                row["in_flight"],
                row["spiffe_id"],
            )
            for row in rows
        ],
    )
    return 0


def kick(options: argparse.Namespace) -> int:
    """Close connections."""
    (row,) = broker_admin.ask(place_of(options).socket, "kick", options.who)
    if not row["closed"]:
        raise CheckFailedError("it has no connection", where=options.who)
    return _say(options, f"closed {row['closed']} of {options.who}", row)


def list_retained(options: argparse.Namespace) -> int:
    """Print what is retained."""
    running, rows = look(options, "retained", options.filter)
    rows.sort(key=itemgetter("topic"))
    if options.json:
        output.document({"running": running, "retained": rows})
        return 0
    output.table(
        ("TOPIC", "QOS", "BYTES", "SINCE", "PUBLISHER"),
        [
            (
                row["topic"],
                row["qos"],
                row["payload_bytes"],
                rfc3339.format_us(row["at_us"]),
                row["publisher"],
            )
            for row in rows
        ],
    )
    return 0


def forget(options: argparse.Namespace) -> int:
    """Forget what is retained."""
    (row,) = broker_admin.ask(place_of(options).socket, "prune", options.filter)
    return _say(options, f"forgot {row['forgotten']} on {options.filter}", row)


def _say(options: argparse.Namespace, text: str, row: dict[str, int]) -> int:
    if options.json:
        output.document(row)
    else:
        output.note(text)
    return 0
