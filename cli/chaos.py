"""`plantroom chaos`: a building under faults, and a verdict."""

import argparse
from pathlib import Path

from plantroom.cli import output
from plantroom.cli.options import runs
from plantroom.lab.chaos import Storm, unleash
from plantroom.lab.chaos_plan import PROFILES
from plantroom.wire.errors import UsageError

DURATION_S_DEFAULT = 60.0
DURATION_S_MIN, DURATION_S_MAX = 5.0, 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = (
        "The building gets a state folder of its own, with --state a new one that stays. The same "
        "seed is the same schedule. Clocks are stepped where libfaketime is installed. The "
        "last line is the verdict; exit code 1 when it is FAIL."
    )
    add = parser.add_argument
    add("--seed", metavar="N", type=int, default=1, help="seed of schedule and readings (1)")
    add("--profile", choices=sorted(PROFILES), default="storm", help="what happens (storm)")
    add(
        "--duration",
        metavar="S",
        type=float,
        default=DURATION_S_DEFAULT,
        help=f"seconds of faults ({DURATION_S_DEFAULT:g}); the calm behind them comes on top",
    )
    runs(parser, run)


def run(options: argparse.Namespace) -> int:
    """Run a storm; 1 when anything was lost, duplicated, misordered or altered."""
    if not DURATION_S_MIN <= options.duration <= DURATION_S_MAX:
        raise UsageError(
            f"--duration {options.duration:g} is out of range",
            remedy=f"give {DURATION_S_MIN:g} to {DURATION_S_MAX:g}",
        )
    progress = output.Progress()

    def tell(text: str) -> None:
        progress.clear()
        output.note(text)

    storm = Storm(profile=options.profile, seed=options.seed, duration_s=options.duration)
    try:
        keep = Path(options.state).absolute() if options.state else None
        verdict = unleash(storm, tell=tell, progress=progress.show, keep=keep)
    finally:
        progress.clear()
    if options.json:
        output.document(verdict.plain)
    else:
        output.line(verdict.line)
    return 0 if verdict.passed else 1
