"""Time where no clock can be trusted: a device without a battery boots in 1970.

The rule: now is never before the latest moment that was proven here (the notBefore of an SVID that
a trusted root signed), plus the time since then by the monotonic clock; nor before the moment that
was kept from this machine's own clock, plus that time only where the clock cannot be right. (Kept
by a clock that was ahead for a while, time stands still until the true one has caught up.)

A peer's certificate that seems not to be valid yet is no proof against the peer but about our
clock: its notBefore counts as now. One that had expired by then is refused. So an attacker who
holds back time gains at most what lies between the proven moment and the true time.
"""

import ssl
from pathlib import Path
from typing import Any

from plantroom.certs import atomic, der
from plantroom.wire import tls
from plantroom.wire.clock import Clock, is_plausible
from plantroom.wire.errors import IdentityError

NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME: the caller checks
PERSIST_S = 60  # a raise by less than this is not worth a write
_FILE_BYTES_MAX, _DIGITS_MAX = 32, 10


class TimeFloor:
    """A `Clock` whose wall time never falls below what is known; `path` keeps it over restarts.

    Raises:
        StorageError: when the file cannot be read.
    """

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._proven_us = self._kept_us = 0
        self._proven_at_us = self._kept_at_us = clock.monotonic_us()
        text = atomic.read(path, bytes_max=_FILE_BYTES_MAX) if path else None
        if text and text.strip().isdigit() and len(text.strip()) <= _DIGITS_MAX:  # else: damaged
            self._kept_us = int(text) * 1_000_000
        self._written_s = self._kept_us // 1_000_000

    def wall_us(self) -> int:
        """Microseconds since 1970, not before the floor."""
        return max(self._clock.wall_us(), self._known_us())

    def monotonic_us(self) -> int:
        """Microseconds since boot."""
        return self._clock.monotonic_us()

    @property
    def behind_s(self) -> float:
        """How far the machine's clock is behind what is known; 0 when it is not."""
        return max(0.0, (self._known_us() - self._clock.wall_us()) / 1e6)

    def learn(self, not_before_s: float) -> None:
        """Raise the floor to a moment that was proven.

        Raises:
            StorageError: when that cannot be kept.
        """
        known_us = round(not_before_s * 1e6)
        if known_us > self._known_us():
            self._proven_us, self._proven_at_us = known_us, self._clock.monotonic_us()
        self.keep()

    def keep(self) -> None:
        """Persist the present time, where there is a file and it is worth it.

        Raises:
            StorageError: when that is not possible.
        """
        now_s = self.wall_us() // 1_000_000
        if self._path is not None and now_s >= self._written_s + PERSIST_S:
            atomic.write(self._path, b"%d\n" % now_s)
            self._written_s = now_s

    def check_peer(self, connection: Any) -> None:
        """Refuse a verified peer whose chain has expired; OpenSSL was told not to look.

        Raises:
            IdentityError: with reason `expired`.
        """
        chain = [der.certificate_facts(part) for part in tls.verified_chain_der(connection)]
        now_s = max(self.wall_us() / 1e6, *(one.not_before_s for one in chain))
        for one in chain:
            if one.not_after_s < now_s:
                raise IdentityError(
                    f"a certificate of the peer expired {now_s - one.not_after_s:.0f} s ago",
                    reason="expired",
                    remedy="check the clocks of both sides",
                )

    def _known_us(self) -> int:
        running_us = self._clock.monotonic_us()
        proven_us, kept_us = self._proven_us, self._kept_us
        if proven_us:
            proven_us += running_us - self._proven_at_us
        if kept_us and not is_plausible(self._clock.wall_us()):
            kept_us += running_us - self._kept_at_us
        return max(proven_us, kept_us)
