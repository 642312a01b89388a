"""What a comparison of the books with the cloud's has shown, as alarms that end by themselves.

Books that disagree are an alarm until they agree. A cloud that has readings of which this queue
has no record has had them from another disk than this one: it was restored from a backup, was
lost, or there are two gateways. Nothing is lost by that, and somebody should know.
"""

from typing import Final

from plantroom.gateway.local_views import Alarms
from plantroom.gateway.welcomed import Compared
from plantroom.wire.clock import Clock
from plantroom.wire.topics import GATEWAY

IMBALANCE: Final = "ledger-imbalance"
ROLLED_BACK: Final = "rolled-back"
QUIET_US: Final = 300_000_000


class Comparing:
    """Tells what each welcome has shown."""

    def __init__(self, alarms: Alarms, clock: Clock) -> None:
        self._alarms = alarms
        self._clock = clock
        self._news_us = clock.monotonic_us()

    def heard(self, found: Compared) -> int:
        """Raise alarms and end them; return how many books disagree."""
        wrong = 0
        for (device, epoch), what in found.balance.items():
            if not what:
                self._alarms.over(IMBALANCE, device, str(epoch), "gateway and cloud agree")
                continue
            wrong += 1
            text = f"gateway and cloud disagree: epoch {epoch} {what}"
            self._alarms.alarm(IMBALANCE, device, text, cause=str(epoch))
        self._forgotten(found)
        return wrong

    def _forgotten(self, found: Compared) -> None:
        now_us = self._clock.monotonic_us()
        if found.forgotten:
            self._news_us = now_us
            (device, epoch), count = next(iter(found.forgotten.items()))
            more = len(found.forgotten) - 1
            text = f"the cloud has {count} readings of {device}, epoch {epoch}" + (
                f", and of {more} more epochs" if more else ""
            )
            text += ", of which this queue has no record: it was restored or lost, or has a twin"
            self._alarms.alarm(ROLLED_BACK, GATEWAY, text)
        elif now_us - self._news_us >= QUIET_US:
            self._alarms.over(ROLLED_BACK, GATEWAY, "", "nothing else of that kind was found")
