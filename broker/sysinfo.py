"""The broker's own figures: as metrics, and as `$SYS/broker/…` topics for people."""

from collections.abc import Iterator

from plantroom.broker.engine import Engine
from plantroom.broker.packets import Publish
from plantroom.broker.runs import US_PER_S, Origin
from plantroom.wire.metrics import Metric

_PREFIX = "plantroom_broker_"
_SYSTEM = Origin(0, "broker", "")


def metrics(engine: Engine) -> list[Metric]:
    """Return every figure now."""
    counters, journal = engine.counters, engine.journal
    sessions = list(engine.clients)
    queued_bytes = sum(client.session.pending_bytes for client in sessions)
    partial_bytes = sum(connection.partial_bytes for connection in engine.connections)
    unread_bytes = sum(connection.unread_bytes for connection in engine.connections)
    gauges = (
        ("connections", "Open connections.", len(engine.connections)),
        ("sessions", "Sessions, connected or not.", len(sessions)),
        ("subscriptions", "Subscriptions.", engine.tree.size),
        ("retained_messages", "Retained messages.", engine.retained.size),
        ("retained_bytes", "Their topics and payloads.", engine.retained.size_bytes),
        ("waiting", "Connections not through CONNECT.", len(engine.doorway)),
        ("partial_bytes", "Parts of packets that have not come whole.", partial_bytes),
        ("unread_bytes", "Bytes that clients have not read.", unread_bytes),
        ("log_bytes", "Bytes of messages in the log.", journal.log_bytes),
        ("queued_bytes", "Memory for messages that wait for clients.", queued_bytes),
        ("storage_failing", "1 while commits fail.", int(journal.failing is not None)),
    )
    totals = (
        ("connections_total", "Connections accepted.", counters.connections),
        ("refused_total", "Connections refused.", counters.refused),
        ("denied_total", "Questions that policy denied.", counters.denied),
        ("received_bytes_total", "Bytes from clients.", counters.bytes_received),
        ("sent_bytes_total", "Bytes to clients.", counters.bytes_sent),
        ("publishes_total", "Publishes accepted.", counters.publishes_received),
        ("dropped_total", "Messages dropped for slow clients.", counters.publishes_dropped),
        ("damaged_total", "Parts of queues that were damaged and are lost.", counters.damaged),
        ("audit_suppressed_total", "Audit lines left out.", engine.audit.suppressed),
        ("protocol_errors_total", "Packets that broke a rule.", counters.protocol_errors),
        ("slow_consumers_total", "Clients cut off for not reading.", counters.slow_consumers),
        ("keepalive_timeouts_total", "Clients that fell silent.", counters.keepalive_timeouts),
        ("sessions_expired_total", "Sessions that ended unused.", counters.sessions_expired),
        ("commits_total", "Group commits.", journal.commits),
        ("commit_failures_total", "Group commits that failed.", journal.failures),
    )
    return [
        *(Metric(_PREFIX + name, "gauge", what, value) for name, what, value in gauges),
        *(Metric(_PREFIX + name, "counter", what, value) for name, what, value in totals),
        *(
            Metric(
                f"{_PREFIX}limit_hits_total",
                "counter",
                "Times that a limit was reached, by its setting.",
                value,
                {"limit": limit},
            )
            for limit, value in counters.limits.items()
        ),
    ]


def publish_sys(engine: Engine, started_us: int) -> None:
    """Refresh the `$SYS` topics."""
    for topic, text in _topics(engine, started_us):
        engine.publish(
            _SYSTEM,
            Publish(topic=f"$SYS/broker/{topic}", payload=text.encode(), retain=True),
        )


def _topics(engine: Engine, started_us: int) -> Iterator[tuple[str, str]]:
    uptime_s = (engine.clock.monotonic_us() - started_us) // US_PER_S
    yield "version", "plantroom"
    yield "uptime", f"{uptime_s} seconds"
    yield "clients/connected", str(sum(c.accepted and c.open for c in engine.connections))
    yield "clients/total", str(len(engine.clients))
    for metric in metrics(engine):
        name = metric.name.removeprefix(_PREFIX).removesuffix("_total")
        if metric.labels:
            name = "/".join((name, *metric.labels.values()))
        yield f"figures/{name}", f"{metric.value:g}"
