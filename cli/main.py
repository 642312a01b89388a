"""The command `plantroom`: read the command line, run one command, end with its exit code.

Each command is a module with `configure(parser)`; only the module of the command that was asked
for is imported, so that help is there at once.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from plantroom.cli.options import Help, Parser, add_globals
from plantroom.wire.errors import PlantroomError

_OTHERS_WRITE = 0o022  # what nobody but the owner may do to a file that is made here
INTERRUPTED = 130
UNEXPECTED = 1

COMMANDS: dict[str, str] = {
    "up": "run a building and its cloud on this machine",
    "down": "stop what `up` started",
    "status": "links, queues, devices, SVIDs, policy and ledger at a glance",
    "readings": "export stored readings",
    "ledger": "show, verify or export the books",
    "quarantine": "look at what was set apart, replay it after a fix, or drop it",
    "call": "ask a device or a service to do something",
    "watch": "print decoded messages as they pass",
    "publish": "send one message",
    "devices": "list, revoke or restore devices",
    "identity": "registration entries, join tokens, bundles, SVIDs",
    "ota": "firmware updates: keys, releases, publishing",
    "chaos": "run a building under faults, and judge what is stored",
    "policy": "explain a decision, run the policy's tests",
    "config": "print a commented sample, check a file",
    "device": "run one sensor from its configuration",
    "gateway": "run one gateway from its configuration",
    "cloud": "run the cloud from its configuration",
    "broker": "run a broker alone, or look after one that runs",
}
_PROCESSES = ("device", "gateway", "cloud")


def command_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser; only the command that `words` name is filled in."""
    parser = Parser(
        prog="plantroom",
        description="Secure building telemetry over MQTT: no reading is ever lost, "
        "and the system can prove it.",
        allow_abbrev=False,
        formatter_class=Help,
    )
    add_globals(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = chosen_command(words)
    for name, text in COMMANDS.items():
        child = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
        )
        if name == chosen:
            module = "process" if name in _PROCESSES else name
            import_module(f"plantroom.cli.{module}").configure(child)
    return parser


def chosen_command(words: Sequence[str]) -> str | None:
    """Return the first word that is neither an option nor the value of `--state`."""
    rest = iter(words)
    for word in rest:
        if word == "--state":
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None


def main(words: Sequence[str] | None = None) -> int:
    """Run `plantroom` and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    os.umask(os.umask(_OTHERS_WRITE) | _OTHERS_WRITE)
    try:
        options = argparse.Namespace(state=None, json=False, debug=False)
        command_parser(words).parse_args(words, options)
        code = int(options.run(options))
        sys.stdout.flush()
    except PlantroomError as error:
        return _complain(str(error), error.exit_code, words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 -- the last resort: one line for the operator
        text = f"unexpected {type(error).__name__}, {error}: run it with --debug and report it"
        return _complain(text, UNEXPECTED, words)
    return code


def _complain(text: str, code: int, words: Sequence[str]) -> int:
    if "--debug" in words:
        traceback.print_exc()
    sys.stderr.write(f"plantroom: {' '.join(text.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
