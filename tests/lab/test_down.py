import os
import signal
import threading

import pytest

from plantroom.lab import lock
from plantroom.lab.down import down
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError


def test_where_nothing_runs_nothing_is_stopped(layout: Layout) -> None:
    assert down(layout) is False


def test_the_holder_is_asked_to_stop_and_waited_for(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    stop = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with lock.held(layout):
            held.set()
            stop.wait(60)

    def kill(pid: int, number: int) -> None:
        asked.append((pid, number))
        stop.set()

    monkeypatch.setattr(os, "kill", kill)
    holder = threading.Thread(target=hold, name="holder")
    holder.start()
    assert held.wait(60)
    assert down(layout) is True
    holder.join(60)
    assert asked == [(os.getpid(), signal.SIGTERM)]


def test_one_that_does_not_stop_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda _pid, _number: None)
    with lock.held(layout), pytest.raises(UnreachableError, match=f"pid {os.getpid()}"):
        down(layout, deadline_s=0.1)
