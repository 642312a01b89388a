import asyncio
from typing import cast

import pytest

from plantroom.broker.codes import Code
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sweep import _CAUSES, sweep
from tests.broker.test_engine import engine
from tests.broker.test_journal import Recorder


class Overdue(Recorder):
    """A connection whose time is over for a reason of the test's."""

    def __init__(self, reason: str | None, *, is_open: bool = True, partial_bytes: int = 0) -> None:
        super().__init__()
        self.open = is_open
        self.partial_bytes = partial_bytes
        self._reason = reason

    def overdue(self, now_us: int) -> str | None:  # noqa: ARG002 -- the test says when
        return self._reason


@pytest.mark.parametrize("reason", sorted(_CAUSES))
def test_overdue_connection_is_closed_with_its_reason(reason: str) -> None:
    found = engine()
    late, fine = Overdue(reason), Overdue(None)
    found.connections = {late, fine}
    sweep(found, 1)
    assert late.log == [(_CAUSES[reason][0], reason)]
    assert fine.log == []
    limit = _CAUSES[reason][1]
    assert sum(found.counters.limits.values()) == bool(limit)


def test_connection_that_will_not_close_is_aborted() -> None:
    found = engine()
    stuck = Overdue("was held", is_open=False)
    found.connections = {stuck}
    sweep(found, 1)
    assert stuck.log == ["was held"]


def test_largest_parts_go_until_the_rest_fits() -> None:
    async def scenario() -> None:
        found = engine()
        assert isinstance(found.limits, BrokerLimits)
        half = found.limits.partial_bytes_max // 2
        large, middle, small = (Overdue(None, partial_bytes=n) for n in (half + 9, half - 9, 1))
        found.connections = {large, middle, small}
        sweep(found, 1)
        ((code, _),) = cast("list[tuple[int, str]]", large.log)
        assert code == Code.QUOTA_EXCEEDED
        assert middle.log == small.log == []
        assert found.counters.limits["partial_bytes_max"] == 1

    asyncio.run(scenario())
