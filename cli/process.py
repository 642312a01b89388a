"""`plantroom device|gateway|cloud run CONFIG`: become one process of the system."""

import argparse
import os
import sys
from typing import Any

from plantroom.cli.options import subcommand, subcommands

_MODULES = {"broker": "plantroom.lab.broker_alone"}  # with the policy that may be configured


def configure(parser: argparse.ArgumentParser) -> None:
    """Add `run CONFIG`."""
    add_run(subcommands(parser), parser.prog.rpartition(" ")[2])


def add_run(commands: Any, kind: str) -> None:
    """Add `run CONFIG` to a command that may have other words as well."""
    run = subcommand(commands, "run", f"run the {kind} until it is stopped", become)
    run.add_argument("config", metavar="CONFIG", help="its TOML file")
    run.set_defaults(kind=kind)


def become(options: argparse.Namespace) -> int:
    """Replace this program by the process, so that it is no larger than when started alone."""
    sys.stdout.flush()
    module = _MODULES.get(options.kind, f"plantroom.{options.kind}")
    command = [sys.executable, "-m", module, options.config]
    os.execv(sys.executable, command)  # noqa: S606 -- our own program
