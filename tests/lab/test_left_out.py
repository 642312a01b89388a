import dataclasses

import pytest

from plantroom.lab.layout import Layout
from plantroom.lab.left_out import NAMED_MAX, LeftOut
from tests.lab.conftest import DEVICES

DEVICE = dataclasses.replace(DEVICES[0], replay="/room.csv")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def left_out(layout: Layout, said: list[str]) -> LeftOut:
    layout.log(DEVICE.name).parent.mkdir(parents=True, exist_ok=True)
    write(layout, "/room.csv:1:1: of the start before\n")
    return LeftOut(layout, (DEVICE, DEVICES[1]), tell=said.append)


def write(layout: Layout, text: str) -> None:
    with layout.log(DEVICE.name).open("a") as log:
        log.write(text)


def test_what_a_device_says_of_its_recording_is_told_once(
    left_out: LeftOut, layout: Layout, said: list[str]
) -> None:
    left_out.look()
    write(
        layout, "2026 INFO connected\n/room.csv:7:3: x is empty\n/room.csv:8:1: a line in the mak"
    )
    left_out.look()
    assert said == [f"{DEVICE.name}: /room.csv:7:3: x is empty"]
    write(layout, "ing\n/room.csv:7:3: x is empty\n")  # it was killed, and read that row again
    left_out.look()
    assert said[1:] == [f"{DEVICE.name}: /room.csv:8:1: a line in the making"]


def test_many_are_not_all_told(left_out: LeftOut, layout: Layout, said: list[str]) -> None:
    write(layout, "".join(f"/room.csv:{n}:1: broken\n" for n in range(2, 1000)))
    left_out.look()
    left_out.look()
    assert len(said) == NAMED_MAX + 1
    assert said[-1] == f"{DEVICE.name}: more of them, see {layout.log(DEVICE.name)}"


def test_a_log_that_was_begun_anew_is_read_from_its_start(
    left_out: LeftOut, layout: Layout, said: list[str]
) -> None:
    write(layout, "x" * 500 + "\n")
    left_out.look()
    layout.log(DEVICE.name).write_text("/room.csv:9:1: broken\n")
    left_out.look()
    assert said == [f"{DEVICE.name}: /room.csv:9:1: broken"]
    layout.log(DEVICE.name).unlink()
    left_out.look()
