from plantroom.broker.sysinfo import metrics, publish_sys
from plantroom.wire.metrics import render
from tests.broker.test_engine import engine


def test_metrics_render() -> None:
    text = render(metrics(engine()))
    assert "# TYPE plantroom_broker_connections gauge" in text
    assert "# TYPE plantroom_broker_publishes_total counter" in text


def test_sys_topics_are_retained_and_volatile() -> None:
    found = engine()
    publish_sys(found, found.clock.monotonic_us() - 7_000_000)
    uptime = found.retained.get("$SYS/broker/uptime")
    assert uptime is not None
    assert uptime.volatile
    assert uptime.message.payload == b"7 seconds"
    assert not found.journal.group.bound
