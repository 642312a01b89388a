"""The bridge's sizes and times, and what it has heard of the cloud so far."""

from dataclasses import dataclass

from plantroom.gateway.settings import GatewaySettings
from plantroom.wire.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Sizes and times of the bridge."""

    live_readings_max: int = 500
    backfill_readings_max: int = 500
    batch_bytes_max: int = 1_000_000
    notes_max: int = 500
    linger_s: float = 0.05
    window: int = 16
    hello_s: float = 120.0
    hello_books_max: int = 200
    hello_bytes_max: int = 1_000_000
    answer_timeout_s: float = 30.0
    bytes_per_s_max: int = 0


def pace_of(settings: GatewaySettings) -> Pace:
    """Return the bridge's sizes and times in its own units."""
    bridge = settings.bridge
    return Pace(
        live_readings_max=bridge.live_readings_max,
        backfill_readings_max=bridge.backfill_readings_max,
        batch_bytes_max=bridge.batch_bytes_max,
        linger_s=bridge.linger_ms / 1000,
        window=bridge.window,
        hello_s=bridge.hello_s,
        answer_timeout_s=bridge.answer_timeout_s,
        bytes_per_s_max=bridge.bytes_per_s_max,
    )


class Progress:
    """What has been heard from the cloud: "connected" is this, not that a socket is open."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.hellos = 0
        self.heard_us: int | None = None
        self.synced_us: int | None = None
        self.confirmed = 0
        self.refused = 0
        self.ignored = 0
        self.imbalances = 0
        self.sent_bytes = 0
        self.sent_readings = 0

    def heard(self) -> None:
        """Note an answer."""
        self.heard_us = self._clock.monotonic_us()
