"""One run from its plan to its result."""

import asyncio
import logging
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

from plantroom.cloud import book_tables, retention
from plantroom.gateway import books
from plantroom.gateway.lanes import Flight, Lanes
from plantroom.lab import audit
from plantroom.wire import envelope
from tests.sim import disk as disks
from tests.sim import virtual_loop
from tests.sim.places import BrokenError
from tests.sim.plan import KINDS, Plan
from tests.sim.process import first_of
from tests.sim.world import World

_QUICK = [{"id": 0x21, "preset": 0, "dict_size": 4096}]  # lzma: effort is not what is tested
# So short that runs have whole ones, which retention lets go and digests are of.
_SEGMENTS = tuple((each, "SEGMENT_SEQS", 7) for each in (audit, book_tables, books, retention))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended."""

    seed: int
    why: str
    digest: str
    trace: tuple[str, ...]
    done: Counter[str]
    virtual_s: float
    starts: int

    @property
    def taken(self) -> int:
        """How many readings there were."""
        return self.done["readings"]


def simulate(plan: Plan) -> Result:
    """Run one plan; `why` is empty when every invariant held."""
    chance = random.Random(f"run {plan.seed}")  # noqa: S311 -- replayable on purpose
    found: dict[str, object] = {}

    async def main() -> None:
        world = found["world"] = World(plan, chance)
        plain, plain_retire = Lanes.sent, retention.retire

        def sent(lanes: Lanes, flight: Flight, now_us: int) -> None:
            world.sent(lanes, flight)
            plain(lanes, flight, now_us)

        def retire(connection: Any, before_us: int) -> int:
            stored = world.truth.stored()
            gone = plain_retire(connection, before_us)
            world.truth.see_retiring(stored)
            return gone

        try:
            with (
                disks.mounted(world.disks),
                mock.patch.object(Lanes, "sent", sent),
                mock.patch.object(retention, "retire", retire),
            ):
                try:
                    await world.run()
                finally:
                    await world.end()
        finally:
            found["done"] = world.done()
            found["now_s"] = asyncio.get_running_loop().time()

    why = ""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with mock.patch.object(envelope, "_LZMA_FILTERS", _QUICK), ExitStack() as rare:
            for module, name, value in _SEGMENTS if plan.strict else ():
                rare.enter_context(mock.patch.object(module, name, value))
            virtual_loop.run(main(), chance)
    except BrokenError as error:
        why = str(error)
    except BaseExceptionGroup as group:
        why = _first(group)
    finally:
        logging.disable(level)
    world = found["world"]
    assert isinstance(world, World)
    return Result(
        seed=plan.seed,
        why=why,
        digest=world.trace.digest,
        trace=tuple(world.trace.lines),
        done=cast("Counter[str]", found["done"]),
        virtual_s=float(str(found["now_s"])),
        starts=sum(process.starts for process in world.processes),
    )


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error = first_of(group)
    if isinstance(error, BrokenError):
        return str(error)
    raise group


def simulate_seed(seed: int, *, kind: str = "plain") -> Result:
    """Run what a seed stands for, in one of the kinds of plans."""
    return simulate(KINDS[kind](seed))
