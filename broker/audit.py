"""The audit: one line for every connection, refusal and closing, as `key=value` pairs.

Nobody can drown it: each peer (by SPIFFE ID, without one by address) has so many lines at once and
so many a second after that, and so have all together. What is left out is counted, and the count is
written with the peer's next line or on its own after a while.
"""

import json
import logging
import re
from collections import OrderedDict

from plantroom.broker.guard import ANONYMOUS, Peer
from plantroom.wire.clock import Clock
from plantroom.wire.policy import Decision

LOGGER = logging.getLogger("plantroom.broker.audit")
PEERS_MAX = 10_000
TOTAL_FACTOR = 100  # all peers together may write so many times what one may
REPORT_S = 10
REPORTS_MAX = 100
_US = 1_000_000
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+#$-]+")
_TEXT_MAX = 256


class Bucket:
    """How many lines may be written now, and how many were not."""

    __slots__ = ("at_us", "lines", "suppressed")

    def __init__(self, lines: float, now_us: int) -> None:
        self.lines = lines
        self.at_us = now_us
        self.suppressed = 0

    def refill(self, now_us: int, lines_s: float, lines_max: float) -> None:
        """Add what time has brought."""
        self.lines = min(self.lines + (now_us - self.at_us) * lines_s / _US, lines_max)
        self.at_us = now_us


class Audit:
    """Writes lines to the logger `plantroom.broker.audit`."""

    def __init__(self, clock: Clock, *, lines_max: int, lines_s: float) -> None:
        self._clock = clock
        self._max = lines_max
        self._s = lines_s
        self._all = Bucket(lines_max * TOTAL_FACTOR, clock.monotonic_us())
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._report_us = 0
        self._forgotten = 0  # lines left out for peers of whom nothing is remembered any more
        self.suppressed = 0

    def record(  # noqa: PLR0913 -- the fields of a line
        self,
        event: str,
        peer: Peer,
        *,
        reason: str = "",
        topic: str = "",
        decision: Decision | None = None,
        level: int = logging.WARNING,
    ) -> None:
        """Write one line; empty fields are left out, no text from outside can break a line."""
        spiffe_id = peer.spiffe_id
        fields = {
            "event": event,
            "spiffe_id": spiffe_id,
            "client_id": peer.client_id,
            "peer": peer.address,
            "reason": reason or (decision.reason if decision else ""),
            "topic": topic,
            "decision_id": decision.decision_id if decision else "",
        }
        who = peer.address.rpartition(":")[0] if spiffe_id == ANONYMOUS else spiffe_id
        self._write(who, fields, level)

    def note(self, event: str, spiffe_id: str, client_id: str, *, reason: str) -> None:
        """Write one line about a session, connected or not."""
        fields = {"event": event, "spiffe_id": spiffe_id, "client_id": client_id, "reason": reason}
        self._write(f"{spiffe_id} {client_id}", fields, logging.WARNING)

    def _write(self, who: str, fields: dict[str, str], level: int) -> None:
        now_us = self._clock.monotonic_us()
        self._all.refill(now_us, self._s * TOTAL_FACTOR, self._max * TOTAL_FACTOR)
        bucket = self._bucket(who, now_us)
        if bucket.lines < 1 or self._all.lines < 1:
            bucket.suppressed += 1
            self.suppressed += 1
            return
        bucket.lines -= 1
        self._all.lines -= 1
        if bucket.suppressed:
            fields["suppressed"] = str(bucket.suppressed)
            bucket.suppressed = 0
        _log(fields, level)

    def _bucket(self, who: str, now_us: int) -> Bucket:
        bucket = self._peers.get(who)
        if bucket is None:
            if len(self._peers) >= PEERS_MAX:
                self._forgotten += self._peers.popitem(last=False)[1].suppressed
            bucket = self._peers[who] = Bucket(self._max, now_us)
        else:
            self._peers.move_to_end(who)
            bucket.refill(now_us, self._s, self._max)
        return bucket

    def tick(self) -> None:
        """Report now and then what was left out, and forget peers that have been quiet."""
        now_us = self._clock.monotonic_us()
        if now_us < self._report_us:
            return
        self._report_us = now_us + REPORT_S * _US
        reports = 0
        for who, bucket in list(self._peers.items()):
            bucket.refill(now_us, self._s, self._max)
            if bucket.suppressed and reports < REPORTS_MAX:
                reports += 1
                fields = {"event": "suppressed", "peer": who, "suppressed": str(bucket.suppressed)}
                _log(fields, logging.WARNING)
                bucket.suppressed = 0
            elif bucket.lines >= self._max and not bucket.suppressed:
                del self._peers[who]
        if self._forgotten:
            fields = {"event": "suppressed", "suppressed": str(self._forgotten)}
            _log(fields | {"reason": "peers that are no longer remembered"}, logging.WARNING)
            self._forgotten = 0


def _log(fields: dict[str, str], level: int) -> None:
    LOGGER.log(level, "%s", " ".join(f"{k}={_quoted(v)}" for k, v in fields.items() if v))


def _quoted(value: str) -> str:
    value = value[:_TEXT_MAX]
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
