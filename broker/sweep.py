"""The sweep: four times a second, every connection whose time is over is closed, and why."""

from plantroom.broker.codes import Code
from plantroom.broker.engine import Engine

# Why a connection is overdue: what MQTT 5 calls it, and the limit that it went over.
_CAUSES: dict[str, tuple[int, str]] = {
    "keep-alive timeout": (Code.KEEP_ALIVE_TIMEOUT, ""),
    "SVID has expired": (Code.MAXIMUM_CONNECT_TIME, ""),
    "was held": (Code.QUOTA_EXCEEDED, ""),
    "no CONNECT in time": (Code.UNSPECIFIED_ERROR, "handshake_timeout_s"),
    "packet not complete in time": (Code.UNSPECIFIED_ERROR, "packet_timeout_s"),
    "slow consumer: it does not read": (Code.QUOTA_EXCEEDED, "outbound_bytes_max"),
}


def sweep(engine: Engine, now_us: int) -> None:
    """Close what is overdue, then the largest parts of packets if they are too many."""
    for connection in list(engine.connections):
        reason = connection.overdue(now_us)
        if reason is None:
            continue
        if not connection.open:
            connection.abort(reason)
            continue
        code, limit = _CAUSES[reason]
        if limit:
            engine.counters.hit(limit)
        engine.counters.keepalive_timeouts += code == Code.KEEP_ALIVE_TIMEOUT
        engine.counters.slow_consumers += limit == "outbound_bytes_max"
        connection.fail(code, reason)
    _bound_partial(engine)


def _bound_partial(engine: Engine) -> None:
    """Make room: whoever holds most of packets that have not come whole goes first."""
    total = sum(connection.partial_bytes for connection in engine.connections)
    if total <= engine.limits.partial_bytes_max:
        return
    for connection in sorted(engine.connections, key=lambda c: c.partial_bytes, reverse=True):
        if total <= engine.limits.partial_bytes_max:
            return
        total -= connection.partial_bytes
        engine.counters.hit("partial_bytes_max")
        connection.fail(Code.QUOTA_EXCEEDED, "too much memory for packets that are not whole")
