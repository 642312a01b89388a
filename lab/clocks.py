"""What a clock that was ahead has left in a state folder, and what `up` does about it.

Nobody takes a certificate from the future, and no issuer goes back behind a moment that it has
kept. Where all of a building stands on one machine, that machine's clock is the only one there is:
what it says to be the future is issued anew. A clock that cannot be right says nothing.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plantroom.certs import atomic, svid
from plantroom.certs.enrolled import SVID_FILE
from plantroom.certs.time_floor import FLOOR_FILE, kept_s
from plantroom.certs.window import SKEW_S
from plantroom.lab.layout import Layout
from plantroom.wire.clock import is_plausible
from plantroom.wire.errors import ConfigError, IdentityError

BEARABLE_S = 3600.0  # of a building that runs: less than this passes while SVIDs are still valid
_SVID_BYTES_MAX = 1024 * 1024


class AheadError(ConfigError):
    """The clock was ahead while the building ran, and what is left of that holds it up for long."""


def clear(layout: Layout, *, now_s: Callable[[], float] = time.time) -> None:
    """Remove what is from the future; who has lost an SVID is given a join token.

    Raises:
        StorageError: when a file cannot be removed.
    """
    for path, ahead_s in _from_the_future(layout, now_s()):
        if ahead_s > SKEW_S:
            atomic.remove(path)


def check(layout: Layout, *, now_s: Callable[[], float] = time.time) -> None:
    """Look whether somebody would have to wait for long.

    Raises:
        AheadError: naming who, and for how long.
    """
    for path, ahead_s in _from_the_future(layout, now_s()):
        if ahead_s > BEARABLE_S:
            text = f"is of {ahead_s:.0f} s from now, the clock was ahead"
            raise AheadError(text, where=str(path))


def _from_the_future(layout: Layout, now_s: float) -> Iterator[tuple[Path, float]]:
    if not is_plausible(int(now_s * 1e6)):
        return
    for folder in (layout.gateway, layout.cloud):
        yield folder / FLOOR_FILE, kept_s(folder / FLOOR_FILE) - now_s
    devices = sorted(layout.device("x").parent.glob("*"))
    for folder in (layout.uplink_identity, *(layout.device_identity(one.name) for one in devices)):
        path = folder / SVID_FILE
        with contextlib.suppress(IdentityError):  # a damaged one is set aside by its owner
            chain = svid.chain_of(atomic.read(path, bytes_max=_SVID_BYTES_MAX) or b"")
            for one in chain[:1]:
                yield path, one.not_valid_before_utc.timestamp() - now_s
