"""Many seeds on every core: `python -m tests.sim.campaign --seeds 0:2000`, or one: `--replay 7`."""

import argparse
import dataclasses
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial

from tests.sim.plan import KINDS
from tests.sim.running import Result, simulate, simulate_seed

_CHUNK = 8


def run(
    seeds: Iterable[int], *, workers: int | None = None, kind: str = "plain"
) -> Generator[Result, None, None]:
    """Give the results of these seeds, in their order."""
    simulated = partial(simulate_seed, kind=kind)
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=_prepare) as pool:
        yield from pool.map(simulated, seeds, chunksize=_CHUNK)


def _prepare() -> None:
    """Let a worker collect garbage rarely: it makes much, and it lives for some minutes only."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def summed(results: Iterable[Result]) -> str:
    """Say what a campaign consisted of."""
    runs, done, broken = 0, Counter[str](), 0
    for result in results:
        runs, broken = runs + 1, broken + bool(result.why)
        done += result.done
    parts = [
        f"{count:,} {what} ({count / max(1, runs):,.1f} a run)" for what, count in done.items()
    ]
    return f"{runs} runs, {broken} broken: {', '.join(parts)}"


def told(result: Result, kind: str = "plain") -> str:
    """Say what broke, and how to see it again."""
    last = "\n  ".join(result.trace[-12:])
    return (
        f"seed {result.seed}: {result.why}\n  {last}\n"
        f"again: python -m tests.sim.campaign --kind {kind} --replay {result.seed}"
    )


def replay(seed: int, kind: str) -> int:
    """Run one seed and print everything that happened."""
    plan = KINDS[kind](seed)
    result = simulate(plan)
    sys.stdout.write(f"{plan}\n" + "\n".join(result.trace))
    verdict = f"BROKEN: {result.why}" if result.why else "every invariant held"
    sys.stdout.write(f"\ntrace {result.digest}, {result.taken} readings: {verdict}\n")
    return int(bool(result.why))


def main() -> int:
    """Run a campaign; 1 when a seed breaks an invariant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:2000", metavar="FIRST:END")
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--kind", choices=KINDS, default="plain", help="what plans are drawn from")
    parser.add_argument("--strict", dest="kind", action="store_const", const="strict")
    given = parser.parse_args()
    if given.replay is not None:
        return replay(given.replay, given.kind)
    first, _, end = given.seeds.partition(":")
    begin_s, results = time.monotonic(), []
    with closing(run(range(int(first), int(end)), kind=given.kind)) as given_in_order:
        for result in given_in_order:
            results.append(dataclasses.replace(result, trace=()))
            if result.why:
                sys.stdout.write(told(result, given.kind) + "\n")
    sys.stdout.write(f"{summed(results)}, {time.monotonic() - begin_s:.0f} s\n")
    return int(any(result.why for result in results))


if __name__ == "__main__":
    sys.exit(main())
