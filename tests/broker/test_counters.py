from plantroom.broker.counters import Counters
from plantroom.broker.sysinfo import metrics
from plantroom.wire.metrics import render
from tests.broker.test_engine import engine


def test_every_counter_starts_at_zero_and_is_shown() -> None:
    assert Counters() == Counters()
    shown = render(metrics(engine()))
    for name in ("connections", "refused", "denied", "publishes", "dropped", "slow_consumers"):
        assert f"plantroom_broker_{name}_total 0" in shown
