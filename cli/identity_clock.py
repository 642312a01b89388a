"""`plantroom identity clock`: what a clock that was ahead has left, and how its owner ends it."""

import argparse
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand
from plantroom.lab import clocks


def configure(nouns: Any) -> None:
    """Add the command."""
    command = subcommand(nouns, "clock", "what issuers hold to be now, if that is ahead", show)
    command.add_argument(
        "--accept",
        action="store_true",
        help="this machine's clock is right: go by it from the next start",
    )


def show(options: argparse.Namespace) -> int:
    """Print which moments lie in the future, and remove them if that was said."""
    layout = layout_of(options)
    found = clocks.floors(layout)
    rows = [{"file": str(path), "ahead_s": round(ahead_s)} for path, ahead_s in found.items()]
    if options.accept:
        clocks.clear_floors(layout)
    if options.json:
        output.document({"ahead": rows})
    elif not rows:
        output.line("No issuer is ahead of this machine's clock.")
    else:
        output.table(("FILE", "SECONDS AHEAD"), ((row["file"], row["ahead_s"]) for row in rows))
        then = "Removed: stop and start them." if options.accept else "Is the clock right? --accept"
        output.line(then)
    return 0
