"""What a clock that was ahead has left: removed at a start, noticed while the building runs."""

import time
from pathlib import Path

import pytest

from plantroom.certs import atomic
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.enrolled import SVID_FILE, TOKEN_FILE
from plantroom.certs.time_floor import FLOOR_FILE
from plantroom.lab import clocks, issuers, setup
from plantroom.lab.clocks import AheadError
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from tests.lab.conftest import DEVICES

DAY_S = 86_400
NOW_S = float(int(time.time()))


class Off:
    """This machine's clock, so many seconds off."""

    def __init__(self, off_s: float) -> None:
        self._off_us = round(off_s * 1e6)

    def wall_us(self) -> int:
        return round(NOW_S * 1e6) + self._off_us

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000


def now_s() -> float:
    """Stands still, however slow this machine is."""
    return NOW_S


def leave(layout: Layout, off_s: float) -> Path:
    """Leave a device's SVID and a floor behind, by a clock that is off; return the SVID."""
    issuer = issuers.building(layout)
    authority = Authority.open(issuer.folder / "authority", issuer.trust_domain, clock=Off(off_s))
    svid = issue_svid(authority, DEVICES[0].spiffe_id, ttl_s=3600)
    atomic.write(layout.gateway / FLOOR_FILE, b"%d\n" % (NOW_S + off_s))
    path = layout.device_identity(DEVICES[0].name) / SVID_FILE
    atomic.write(path, svid.chain_pem)
    (path.parent / TOKEN_FILE).unlink()  # it has joined
    return path


def test_what_is_from_the_future_goes_and_its_owner_may_join_again(set_up: Layout) -> None:
    path = leave(set_up, DAY_S)
    with pytest.raises(AheadError, match=rf"is of 86400 s from now.*{FLOOR_FILE}"):
        clocks.check(set_up, now_s=now_s)
    clocks.clear(set_up, now_s=now_s)
    clocks.check(set_up, now_s=now_s)
    assert not path.exists()
    assert not (set_up.gateway / FLOOR_FILE).exists()
    setup.prepare(set_up, Flags(devices=2), DEVICES)
    assert (path.parent / TOKEN_FILE).read_text().strip()


def test_a_device_alone_holds_nobody_up_its_issuer_heals_it(set_up: Layout) -> None:
    leave(set_up, DAY_S)
    (set_up.gateway / FLOOR_FILE).unlink()
    clocks.check(set_up, now_s=now_s)


def test_an_operator_lets_issuers_go_by_the_clock_and_keeps_svids(set_up: Layout) -> None:
    path = leave(set_up, DAY_S)
    assert clocks.floors(set_up, now_s=now_s) == {set_up.gateway / FLOOR_FILE: DAY_S}
    clocks.clear_floors(set_up, now_s=now_s)
    assert clocks.floors(set_up, now_s=now_s) == {}
    assert path.exists()


def test_a_moment_that_cannot_be_read_stops_nothing_that_runs(set_up: Layout) -> None:
    """The gateway's disk fails: its issuer says nothing, and the cloud's is looked at."""
    (set_up.gateway / FLOOR_FILE).mkdir()
    clocks.check(set_up, now_s=now_s)
    atomic.write(set_up.cloud / FLOOR_FILE, b"%d\n" % (NOW_S + DAY_S))
    with pytest.raises(AheadError, match="cloud"):
        clocks.check(set_up, now_s=now_s)


@pytest.mark.parametrize("off_s", [-DAY_S, 0, 30])
def test_what_is_of_now_or_before_stays(set_up: Layout, off_s: float) -> None:
    path = leave(set_up, off_s)
    clocks.check(set_up, now_s=now_s)
    clocks.clear(set_up, now_s=now_s)
    assert path.exists()
    assert (set_up.gateway / FLOOR_FILE).exists()


def test_a_running_building_bears_what_passes_by_itself(set_up: Layout) -> None:
    path = leave(set_up, 3000)
    clocks.check(set_up, now_s=now_s)
    clocks.clear(set_up, now_s=now_s)  # nobody waits for it at a start
    assert not path.exists()


def test_a_clock_that_cannot_be_right_says_nothing(set_up: Layout) -> None:
    path = leave(set_up, 0)
    clocks.check(set_up, now_s=lambda: 5.0)
    clocks.clear(set_up, now_s=lambda: 5.0)
    assert path.exists()


def test_a_damaged_svid_or_floor_is_left_to_its_owner(set_up: Layout) -> None:
    path = leave(set_up, 0)
    for file in (path, set_up.gateway / FLOOR_FILE):
        file.write_bytes(b"damaged")
    clocks.check(set_up, now_s=now_s)
    clocks.clear(set_up, now_s=now_s)
    assert path.read_bytes() == b"damaged"
