"""What the bridge says in the log about its work."""

import asyncio
from typing import Any

import pytest

from tests.gateway.test_bridge import drained, make_bridge, with_bridge


def test_the_log_says_when_syncing_is_done(
    make_rig: Any, lab: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        rig, cloud = make_rig(), lab.SimCloud()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(25))))
        bridge = make_bridge(rig, cloud, lab)

        async def work() -> None:
            await drained(rig, bridge)
            await lab.until(lambda: bridge.state == "live")

        with caplog.at_level("INFO", logger="plantroom.gateway.bridge"):
            await with_bridge(bridge, work)

    asyncio.run(scenario())
    assert "everything is synced: 25 readings in " in caplog.text
