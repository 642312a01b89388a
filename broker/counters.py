"""What the broker counts, shown in `$SYS` and as metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the start."""

    connections: int = 0
    refused: int = 0
    denied: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    publishes_received: int = 0
    publishes_dropped: int = 0
    protocol_errors: int = 0
    slow_consumers: int = 0
    sessions_expired: int = 0
