"""What a clock that was ahead has left in a state folder, and what ends it.

Nobody takes a certificate from the future, and no issuer goes back behind a moment that it has
kept. An SVID is healed by its issuer (`plantroom.certs.enrolled`), an issuer's own moment by who
knows that this machine's clock is right now: an operator, or `up`, which has all of a building on
one machine. A clock that cannot be right says nothing.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plantroom.certs import atomic, svid
from plantroom.certs.enrolled import SVID_FILE
from plantroom.certs.time_floor import DOUBT_S, FLOOR_FILE, kept_s
from plantroom.lab.layout import Layout
from plantroom.wire.clock import is_plausible
from plantroom.wire.errors import ConfigError, IdentityError, StorageError

BEARABLE_S = 3600.0  # of a building that runs: less than this passes while SVIDs are still valid
_SVID_BYTES_MAX = 1024 * 1024

Now = Callable[[], float]


class AheadError(ConfigError):
    """The clock was ahead while the building ran, and what is left of that holds it up for long."""


def floors(layout: Layout, *, now_s: Now = time.time) -> dict[Path, float]:
    """Return the moments of issuers that lie in the future, and how far."""
    return _ahead(_floors(layout), now_s())


def clear_floors(layout: Layout, *, now_s: Now = time.time) -> None:
    """Let issuers go by the clock again from their next start.

    Raises:
        StorageError: when a file cannot be removed.
    """
    for path in floors(layout, now_s=now_s):
        atomic.remove(path)


def clear(layout: Layout, *, now_s: Now = time.time) -> None:
    """Remove SVIDs as well; who has lost one is given a join token by `setup`.

    Raises:
        StorageError: when a file cannot be removed.
    """
    clear_floors(layout, now_s=now_s)
    for path in _ahead(_svids(layout), now_s()):
        atomic.remove(path)


def check(layout: Layout, *, now_s: Now = time.time) -> None:
    """Look whether an issuer would have to wait for long; who cannot be read says nothing.

    Raises:
        AheadError: naming its file, and how long.
    """
    found = _floors(layout, StorageError)  # one part's disk fails: the others go on
    for path, ahead_s in _ahead(found, now_s()).items():
        if ahead_s > BEARABLE_S:
            text = f"is of {ahead_s:.0f} s from now, the clock was ahead"
            raise AheadError(text, where=str(path))


def _ahead(moments: Iterator[tuple[Path, float]], now_s: float) -> dict[Path, float]:
    if not is_plausible(int(now_s * 1e6)):
        return {}
    return {path: at_s - now_s for path, at_s in moments if at_s - now_s > DOUBT_S}


def _floors(layout: Layout, *passed_over: type[Exception]) -> Iterator[tuple[Path, float]]:
    for path in (layout.gateway / FLOOR_FILE, layout.cloud / FLOOR_FILE):
        with contextlib.suppress(*passed_over):
            yield path, kept_s(path)


def _svids(layout: Layout) -> Iterator[tuple[Path, float]]:
    devices = sorted(layout.device("x").parent.glob("*"))
    for folder in (layout.uplink_identity, *(layout.device_identity(one.name) for one in devices)):
        path = folder / SVID_FILE
        with contextlib.suppress(IdentityError):  # a damaged one is set aside by its owner
            chain = svid.chain_of(atomic.read(path, bytes_max=_SVID_BYTES_MAX) or b"")
            for one in chain[:1]:
                yield path, one.not_valid_before_utc.timestamp()
