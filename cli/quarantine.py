"""`plantroom quarantine ls|show|replay|drop`: what was set apart, and what becomes of it."""

import argparse
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import quarantine
from plantroom.lab.quarantine import PLACES, Found
from plantroom.wire.errors import CheckFailedError, UsageError
from plantroom.wire.quarantined import why_not
from plantroom.wire.rfc3339 import format_us

_HEAD = ("NAME", "DEVICE", "EPOCH", "SEQ", "REASON", "SINCE", "BYTES", "OUTCOME")
_TEXT_CHARS_MAX = 500


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the four."""
    commands = subcommands(parser)
    listing = subcommand(commands, "ls", "list what waits there", ls)
    listing.add_argument("--at", choices=PLACES, help="only the gateway's, or only the cloud's")
    listing.add_argument("--device", metavar="ID", help="only this one's: hvac-001")
    listing.add_argument(
        "--all", action="store_true", help="also what was replayed or dropped since"
    )
    showing = subcommand(commands, "show", "print one of them, with its bytes", show)
    replaying = subcommand(
        commands, "replay", "after a fix: send them through the same validation again", replay
    )
    dropping = subcommand(
        commands, "drop", "give them up: the bytes go, the reason stays on record", drop
    )
    showing.add_argument("name", metavar="NAME", help="as `ls` gives it: gateway:7")
    for command in (replaying, dropping):
        command.add_argument("names", metavar="NAME", nargs="+", help="as `ls` gives them")
    dropping.add_argument(
        "--reason", metavar="TEXT", required=True, help="why: kept beside its key and hash"
    )


def ls(options: argparse.Namespace) -> int:
    """List."""
    chosen = [
        found
        for found in quarantine.listed(layout_of(options))
        if options.at in {None, found.place}
        and options.device in {None, found.item.device, found.item.device.rpartition("/")[2]}
        and (options.all or not found.item.outcome)
    ]
    if options.json:
        output.document({"quarantined": [plain(found) for found in chosen]})
    else:
        output.table(_HEAD, map(_row, chosen))
    return 0


def show(options: argparse.Namespace) -> int:
    """Print one."""
    layout = layout_of(options)
    found = quarantine.one(layout, options.name)
    data = quarantine.raw(layout, found)
    said = plain(found) | {
        "raw": None if data is None else data.hex(),
        "decoded": None if data is None else quarantine.content(data),
    }
    if options.json:
        output.document(said)
        return 0
    for name, value in said.items():
        output.line(f"{name:<10} {'' if value is None else value}")
    return 0


def replay(options: argparse.Namespace) -> int:
    """Replay, one after the other; what is refused again is named at the end."""
    layout = layout_of(options)
    refused: list[CheckFailedError] = []
    done = []
    for found in [quarantine.one(layout, name) for name in options.names]:
        try:
            new = quarantine.replay(layout, found)
        except CheckFailedError as error:
            refused.append(error)
            output.note(f"{found.name}: {error}")
        else:
            done.append({"name": found.name, "new": new})
            output.note(f"{found.name}: taken, {new} readings were new")
    if options.json:
        output.document({"replayed": done, "refused": len(refused)})
    if refused:
        raise CheckFailedError(f"{len(refused)} of {len(options.names)} are refused again")
    return 0


def drop(options: argparse.Namespace) -> int:
    """Drop."""
    why = options.reason.strip()
    if not why or len(why) > _TEXT_CHARS_MAX:
        raise UsageError("the reason is empty or too long", where="--reason", remedy="say why")
    layout = layout_of(options)
    for found in [quarantine.one(layout, name) for name in options.names]:
        quarantine.drop(layout, found, why)
        output.note(f"{found.name}: dropped, {why}")
    return 0


def plain(found: Found) -> dict[str, Any]:
    """Return an item as JSON."""
    item = found.item
    return {
        "name": found.name,
        "at": found.place,
        "device": item.device,
        "epoch": item.epoch,
        "first": item.first,
        "last": item.last,
        "reason": item.reason,
        "text": item.text,
        "since": format_us(item.at_us),
        "hash": item.hash.hex(),
        "bytes": item.size,
        "bytes_kept": item.size is not None,
        "outcome": item.outcome,
        "outcome_at": None if item.outcome_us is None else format_us(item.outcome_us),
        "can_replay": not why_not(item),
    }


def _row(found: Found) -> tuple[object, ...]:
    item = found.item
    seqs = f"{item.first}" if item.first == item.last else f"{item.first}-{item.last}"
    size = "not kept" if item.size is None else item.size
    return (
        found.name,
        item.device.rpartition("/")[2],
        item.epoch,
        "" if item.first is None else seqs,
        item.reason,
        format_us(item.at_us),
        "" if item.outcome else size,
        item.outcome,
    )
