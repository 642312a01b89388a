import os

import pytest

from plantroom.lab import lock, running
from plantroom.lab.layout import Layout
from plantroom.lab.running import Running
from plantroom.wire.errors import ConfigError, UnreachableError

RUNNING = Running(pid=os.getpid(), port_base=18830, ready=True, pids={"gateway": 7})


def test_what_is_saved_is_found_as_long_as_the_lock_is_held(layout: Layout) -> None:
    with lock.held(layout):
        assert running.find(layout) is None
        running.save(layout, RUNNING)
        assert running.need(layout) == RUNNING
    assert running.find(layout) is None
    with pytest.raises(UnreachableError, match="plantroom up"):
        running.need(layout)


def test_a_damaged_file_is_named(layout: Layout) -> None:
    with lock.held(layout):
        layout.running.write_text("{")
        with pytest.raises(ConfigError, match=r"up\.json"):
            running.find(layout)


def test_the_addresses_are_those_that_scripts_rely_on(layout: Layout) -> None:
    found = running.addresses(layout, RUNNING)
    assert found["dashboard"] == "http://127.0.0.1:18835/"
    assert found["gateway"] == {
        "mqtt": "mqtts://127.0.0.1:18830",
        "http": "http://127.0.0.1:18832",
    }
    assert found["cloud"] == {"mqtt": "mqtts://127.0.0.1:18833", "http": "http://127.0.0.1:18835"}
    assert found["inspector"].keys() == {"cert", "key", "ca"}
    assert (found["state"], found["pids"]) == (str(layout.state), {"gateway": 7})
