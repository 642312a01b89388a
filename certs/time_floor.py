"""Time where no clock can be trusted: a device without a battery boots in 1970.

The rule: now is never before the latest moment that was proven here (the notBefore of an SVID that
a trusted root signed), plus the time since then by the monotonic clock; nor before the moment that
was kept from this machine's own clock, plus that time only where the clock cannot be right. (Kept
by a clock that was ahead for a while, time stands still until the true one has caught up.)

A peer's certificate that seems not to be valid yet is no proof against the peer but about our
clock: its notBefore counts as now. One that had expired by then is refused. So an attacker who
holds back time gains at most what lies between the proven moment and the true time.

What is known may be wrong as well: clocks were ahead for a while. An issuer takes it back by an
SVID for a key that was made after the question: nobody who holds an old certificate can do that.
"""

import ssl
from pathlib import Path
from typing import Any

from plantroom.certs import atomic, der
from plantroom.wire import tls
from plantroom.wire.clock import Clock, is_plausible
from plantroom.wire.errors import IdentityError

NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME: the caller checks
FLOOR_FILE = "time-floor"  # in the folder of an issuer
DOUBT_S = 60  # two clocks may differ by as much
PERSIST_S = 60  # a raise by less than this is not worth a write
_FILE_BYTES_MAX, _DIGITS_MAX = 32, 10


def kept_s(path: Path) -> int:
    """Return the moment that such a file keeps; 0 where there is none, or it is damaged.

    Raises:
        StorageError: when the file cannot be read.
    """
    text = (atomic.read(path, bytes_max=_FILE_BYTES_MAX) or b"").strip()
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MAX else 0


class TimeFloor:
    """A `Clock` whose wall time never falls below what is known; `path` keeps it over restarts.

    Raises:
        StorageError: when the file cannot be read.
    """

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._proven_us = 0
        self._proven_at_us = self._kept_at_us = clock.monotonic_us()
        self._kept_us = kept_s(path) * 1_000_000 if path else 0
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

    @property
    def machine_s(self) -> float:
        """What this machine's own clock says, in seconds since 1970."""
        return self._clock.wall_us() / 1e6

    @property
    def doubt_s(self) -> float:
        """As `behind_s`, but 0 where this machine's clock cannot be right."""
        return self.behind_s if is_plausible(self._clock.wall_us()) else 0.0

    def take_back(self, not_before_s: float) -> None:
        """Lower the floor to a moment that an issuer has proven just now.

        Raises:
            StorageError: when that cannot be kept.
        """
        self._proven_at_us = self._clock.monotonic_us()  # first: another thread may look
        self._proven_us, self._kept_us = round(not_before_s * 1e6), 0
        self._written_s = 0
        self.keep()

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
        chain = _facts(connection)
        _check_ends(chain, max(self.wall_us() / 1e6, *(one.not_before_s for one in chain)))

    def check_peer_by_machine(self, connection: Any) -> None:
        """Refuse a verified peer whose chain is not valid now by this machine's own clock.

        Raises:
            IdentityError: with reason `expired` or `not-yet-valid`.
        """
        chain, now_s = _facts(connection), self.machine_s
        if any(one.not_before_s > now_s + DOUBT_S for one in chain):
            raise IdentityError(
                "a certificate of the peer is not valid yet", reason="not-yet-valid"
            )
        _check_ends(chain, now_s)

    def _known_us(self) -> int:
        running_us = self._clock.monotonic_us()
        proven_us, kept_us = self._proven_us, self._kept_us
        if proven_us:
            proven_us += running_us - self._proven_at_us
        if kept_us and not is_plausible(self._clock.wall_us()):
            kept_us += running_us - self._kept_at_us
        return max(proven_us, kept_us)


def _facts(connection: Any) -> list[der.CertificateFacts]:
    return [der.certificate_facts(part) for part in tls.verified_chain_der(connection)]


def _check_ends(chain: list[der.CertificateFacts], now_s: float) -> None:
    for one in chain:
        if one.not_after_s < now_s:
            raise IdentityError(
                f"a certificate of the peer expired {now_s - one.not_after_s:.0f} s ago",
                reason="expired",
                remedy="check the clocks of both sides",
            )
