import dataclasses

import pytest

from plantroom.broker.counters import LIMITS, Counters
from plantroom.broker.errors import LimitError, MalformedError
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sysinfo import metrics
from plantroom.wire.metrics import render
from tests.broker.test_engine import engine


def test_every_counter_starts_at_zero_and_is_shown() -> None:
    assert Counters() == Counters()
    shown = render(metrics(engine()))
    for name in ("connections", "refused", "denied", "publishes", "dropped", "slow_consumers"):
        assert f"plantroom_broker_{name}_total 0" in shown


@pytest.mark.parametrize("limit", LIMITS)
def test_every_limit_is_a_setting_and_is_shown(limit: str) -> None:
    assert limit in {field.name for field in dataclasses.fields(BrokerLimits)}
    assert f'plantroom_broker_limit_hits_total{{limit="{limit}"}} 0' in render(metrics(engine()))


def test_a_limit_is_counted_under_its_name() -> None:
    counters = Counters()
    counters.count(LimitError("much", limit="packet_bytes_max"))
    counters.count(MalformedError("odd"))
    assert (counters.protocol_errors, counters.limits["packet_bytes_max"]) == (2, 1)
    assert sum(counters.limits.values()) == 1
