"""What every command line of `plantroom` shares: its parser and the global options."""

import argparse
import os
from collections.abc import Callable
from typing import Any, NoReturn

from plantroom.lab.layout import Layout
from plantroom.wire.errors import SpiffeIdError, UsageError
from plantroom.wire.spiffe import SpiffeId

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, where=self.prog, remedy=f"see `{self.prog} --help`")


class Help(argparse.HelpFormatter):
    """Help with every command beside its text: argparse forgets that it indents them twice."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = 16


def add_globals(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes, before or behind its name."""
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--state",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="state folder (else PLANTROOM_STATE, else .plantroom here)",
    )
    for name, text in (
        ("--json", "machine-readable output"),
        ("--debug", "show the traceback of an error"),
    ):
        group.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)


def runs(parser: argparse.ArgumentParser, run: Run) -> None:
    """Say which function runs this command; ends its set-up."""
    add_globals(parser)
    parser.set_defaults(run=run)


def subcommands(parser: argparse.ArgumentParser, *, required: bool = True) -> Any:
    """Give a command words of its own: `plantroom ledger show`."""
    return parser.add_subparsers(metavar="COMMAND", required=required, parser_class=Parser)


def subcommand(commands: Any, name: str, text: str, run: Run) -> argparse.ArgumentParser:
    """Add one of those words."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    runs(parser, run)
    return parser


def layout_of(options: argparse.Namespace) -> Layout:
    """Return the state folder that the command is about."""
    return Layout.find(options.state, os.environ)


def spiffe_id(text: str) -> SpiffeId:
    """Read an argument that is a SPIFFE ID."""
    try:
        return SpiffeId.parse(text)
    except SpiffeIdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
