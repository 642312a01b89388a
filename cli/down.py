"""`plantroom down`: stop what `up` started, cleanly."""

import argparse

from plantroom.cli import output
from plantroom.cli.options import layout_of, runs
from plantroom.lab.down import down


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing but the global options."""
    runs(parser, run)


def run(options: argparse.Namespace) -> int:
    """Stop it and say whether there was anything to stop."""
    layout = layout_of(options)
    stopped = down(layout)
    if options.json:
        output.document({"state": str(layout.state), "stopped": stopped})
    else:
        output.note("stopped" if stopped else f"nothing runs in {layout.state}")
    return 0
