import os
import time

import pytest

from plantroom.certs.time_floor import FLOOR_FILE
from plantroom.lab import lock, running
from plantroom.lab.layout import Layout
from plantroom.lab.running import Running
from plantroom.lab.status import status
from plantroom.wire.errors import UnreachableError
from tests.fakes.readings import hvac_reading
from tests.fakes.stored import put
from tests.lab.conftest import Answers, latest

GATEWAY = {
    "link": {"state": "live"},
    "queue": {"live": 1, "backfill": 2},
    "policy": {"revision": "1"},
    "identity": {"not_after": "2026-01-01T00:00:00Z"},
}


def test_both_ends_the_fleet_and_the_books_are_told(set_up: Layout, web: Answers) -> None:
    put(set_up.store, hvac_reading())
    web.by_path |= {"/api/status": GATEWAY, "/api/latest": latest(("hvac-001", True, {}))}
    with lock.held(set_up):
        # The gateway's web port is the third from the base; the cloud's does not answer.
        running.save(set_up, Running(pid=os.getpid(), port_base=web.port - 2, ready=True))
        found = status(set_up)
    assert (found["link"], found["queue"]) == (GATEWAY["link"], GATEWAY["queue"])
    assert found["policy"] == {"revision": "1"}
    assert found["cloud"] is None
    assert found["clock_ahead_s"] == {}
    assert found["svids"] == {"gateway": GATEWAY["identity"], "uplink": None, "cloud": None}
    assert {one["device"]: one["online"] for one in found["devices"]}["hvac-001"] is True
    assert (found["ledger"]["closes"], found["ledger"]["stored"]) == (True, 1)


def test_books_that_cannot_be_read_do_not_hide_the_rest(set_up: Layout) -> None:
    with lock.held(set_up):
        running.save(set_up, Running(pid=os.getpid(), port_base=1024))
        found = status(set_up)
    assert found["ledger"]["closes"] is None
    assert found["gateway"] is None


def test_an_issuer_that_is_ahead_of_the_clock_is_named(set_up: Layout) -> None:
    (set_up.cloud / FLOOR_FILE).write_text(f"{int(time.time()) + 7200}\n")
    with lock.held(set_up):
        running.save(set_up, Running(pid=os.getpid(), port_base=1024))
        found = status(set_up)
    assert list(found["clock_ahead_s"]) == ["cloud"]
    assert 0 < found["clock_ahead_s"]["cloud"] <= 7200


def test_nothing_runs(set_up: Layout) -> None:
    with pytest.raises(UnreachableError, match="no building runs here"):
        status(set_up)
