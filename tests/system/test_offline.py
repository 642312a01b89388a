"""The offline test: take the network away, see buffers grow, give it back, see everything sync."""

import re
import urllib.request

from tests.fakes.ports import free_port
from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building

HOST = "127.0.0.1"


def figure(url: str, name: str) -> float:
    """Return one figure of a `/metrics` page."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as page:  # noqa: S310 -- our own
        text = page.read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not on the page"
    return float(found[1])


def test_buffers_grow_offline_and_everything_syncs_by_itself(building: Building) -> None:
    port = free_port()
    sensor = f"http://{HOST}:{port}"
    unsent = 'plantroom_device_outbox_readings{state="unsent"}'
    backlog = 'plantroom_queue_readings{lane="backfill"}'
    with (
        Proxy(HOST, building.port_base).running() as lan,
        Proxy(HOST, building.port_base + 3).running() as wan,
    ):
        ready = building.start(
            *("--devices", "1", "--speed", "120"),
            environ={
                "PLANTROOM_UPLINK_ADDRESS": lan.address,
                "PLANTROOM_BRIDGE_ADDRESS": wan.address,
                "PLANTROOM_SERVER_ENABLED": "true",
                "PLANTROOM_SERVER_PORT": str(port),
                "PLANTROOM_METRICS_ENABLED": "true",
            },
        )
        gateway = ready["gateway"]["http"]
        until(
            lambda: figure(gateway, "plantroom_link_connected") == 1, deadline_s=60, what="a link"
        )

        wan.cut()
        until(
            lambda: (
                figure(gateway, "plantroom_link_connected") == 0
                and figure(gateway, "plantroom_offline_seconds") > 0
                and figure(gateway, "plantroom_queue_readings" + '{lane="live"}')
                + figure(gateway, backlog)
                >= 6
            ),
            deadline_s=60,
            what="a gateway that knows that it is cut off, and a queue that grows",
        )
        link = building.json("status", "--json")["link"]
        assert (link["connected"], link["state"]) == (False, "offline")

        lan.cut()
        until(lambda: figure(sensor, unsent) >= 6, deadline_s=60, what="an outbox that grows")
        assert figure(sensor, "plantroom_device_link_up") == 0
        assert building.run("ledger", "verify").returncode == 0, "what waits is accounted for"

        lan.restore()
        wan.restore()
        until(lambda: figure(sensor, unsent) <= 1, deadline_s=60, what="an empty outbox")
        until(
            lambda: (
                figure(gateway, backlog) == 0 and figure(gateway, "plantroom_link_connected") == 1
            ),
            deadline_s=60,
            what="a queue that is synced",
        )
        until_said(building, "hvac-001", "everything is sent: ")
        until_said(building, "gateway", "everything is synced: ")
    assert building.run("ledger", "verify").returncode == 0, building.logs()


def until_said(building: Building, name: str, text: str) -> None:
    """Wait for a line of a log: the process looks a while after its figures have changed."""
    log = building.state / "logs" / f"{name}.log"
    until(lambda: text in log.read_text("utf-8"), deadline_s=60, what=f"{name}: {text}")
