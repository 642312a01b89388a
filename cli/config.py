"""`plantroom config sample|check`: a commented file with every option; the errors of a file."""

import argparse
import os
from pathlib import Path

from plantroom.cli import output
from plantroom.cli.options import subcommand, subcommands
from plantroom.lab import configuration


def configure(parser: argparse.ArgumentParser) -> None:
    """Add both."""
    commands = subcommands(parser)
    sample = subcommand(
        commands, "sample", "print a commented file with every option", print_sample
    )
    sample.add_argument("kind", metavar="NAME", choices=configuration.KINDS, help="which process")
    check = subcommand(commands, "check", "name what is wrong with a file", check_file)
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--kind", choices=configuration.KINDS, help="else told by its sections")


def print_sample(options: argparse.Namespace) -> int:
    """Print the sample."""
    output.line(configuration.sample(options.kind).rstrip())
    return 0


def check_file(options: argparse.Namespace) -> int:
    """Check the file as the process would, environment overrides included."""
    kind = options.kind or configuration.kind_of(options.file)
    configuration.check(kind, options.file, os.environ)
    if options.json:
        output.document({"file": str(options.file), "kind": kind, "ok": True})
    else:
        output.note(f"{options.file} is a good configuration of a {kind}")
    return 0
