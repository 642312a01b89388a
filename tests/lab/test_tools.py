import asyncio
import os
import socket

import pytest

from plantroom.lab import lock, running, tools
from plantroom.lab.building import FRONT_ID, GATEWAY_ID
from plantroom.lab.layout import Layout
from plantroom.lab.running import Running
from plantroom.wire.errors import UnreachableError


def connect(layout: Layout) -> None:
    async def main() -> None:
        async with tools.connected(layout, person="inspector", broker="gateway"):
            raise AssertionError("nobody is there")

    asyncio.run(main())


def test_who_is_asked_depends_on_the_target() -> None:
    assert tools.broker_of(GATEWAY_ID) == "gateway"
    assert tools.broker_of(FRONT_ID) == "cloud"


def test_a_building_that_does_not_run_is_said(set_up: Layout) -> None:
    with pytest.raises(UnreachableError, match="no building runs here"):
        connect(set_up)


def test_a_broker_that_does_not_answer_is_said(set_up: Layout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with lock.held(set_up):
            running.save(set_up, Running(pid=os.getpid(), port_base=taken.getsockname()[1]))
            with pytest.raises(UnreachableError, match="cannot connect"):
                connect(set_up)
