"""The queue on real SQLite and the simulated cloud, for every test of the gateway."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import gateway_cloud, gateway_rig
from tests.fakes.gateway_rig import Rig


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait, within bounds, until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- the condition is another object's state
            await asyncio.sleep(0.005)


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []
    numbers = itertools.count()

    def make(**options: Any) -> Rig:
        rigs.append(Rig(tmp_path / f"queue-{next(numbers)}.db", **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def lab() -> Any:
    """Give the helpers of both fakes as one namespace."""
    return SimpleNamespace(**(vars(gateway_rig) | vars(gateway_cloud)), until=until)
