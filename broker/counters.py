"""What the broker counts, shown in `$SYS` and as metrics."""

from dataclasses import dataclass, field

from plantroom.broker.errors import LimitError, PacketError

# The settings of `BrokerLimits` whose excess is counted, each under its own name.
LIMITS = (
    "address_waiting_max",
    "client_id_bytes_max",
    "connect_bytes_max",
    "connections_max",
    "handshake_timeout_s",
    "identity_sessions_max",
    "log_bytes_max",
    "outbound_bytes_max",
    "packet_bytes_max",
    "packet_timeout_s",
    "partial_bytes_max",
    "receive_maximum",
    "retained_bytes_max",
    "retained_max",
    "session_log_bytes_max",
    "session_queue_bytes_max",
    "session_subscriptions_max",
    "sessions_max",
    "subscribe_filters_max",
    "subscriptions_max",
    "topic_alias_maximum",
    "topic_bytes_max",
    "topic_levels_max",
    "user_properties_max",
    "will_bytes_max",
)


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
    keepalive_timeouts: int = 0
    damaged: int = 0
    limits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))

    def hit(self, limit: str) -> None:
        """Count that a limit was reached."""
        self.limits[limit] += 1

    def count(self, error: PacketError) -> None:
        """Count a packet that broke a rule, and the limit if it was one."""
        self.protocol_errors += 1
        if isinstance(error, LimitError):
            self.hit(error.limit)
