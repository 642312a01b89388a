"""A running building at a glance: what its two ends say of themselves, its devices, its books."""

from typing import Any

from plantroom.lab import ask, clocks, fleet, ledger, running
from plantroom.lab.layout import Layout
from plantroom.wire.errors import PlantroomError, UnreachableError


def status(layout: Layout) -> dict[str, Any]:
    """Return everything as JSON values; an end that does not answer is None.

    Raises:
        UnreachableError: when nothing runs in this state folder.
    """
    found = running.need(layout)
    gateway = _said(found.ports.gateway_http)
    cloud = _said(found.ports.cloud_http)
    return {
        "state": str(layout.state),
        "ready": found.ready,
        "pid": found.pid,
        "pids": dict(found.pids),
        "link": (gateway or {}).get("link"),
        "queue": (gateway or {}).get("queue"),
        **{
            name: (gateway or {}).get(name)
            for name in ("queue_bytes", "drain", "evicted", "quarantined", "set_aside")
        },
        "devices": fleet.devices(layout),
        "svids": {
            name: (said or {}).get(field)
            for name, said, field in (
                ("gateway", gateway, "identity"),
                ("uplink", gateway, "cloud_identity"),
                ("cloud", cloud, "identity"),
            )
        },
        "clock_ahead_s": {
            path.parent.name: round(ahead_s) for path, ahead_s in clocks.floors(layout).items()
        },
        "policy": (gateway or {}).get("policy"),
        "ledger": _books(layout),
        "gateway": gateway,
        "cloud": cloud,
    }


def _said(port: int) -> dict[str, Any] | None:
    try:
        said: dict[str, Any] = ask.get_json(port, "/api/status")
    except UnreachableError:
        return None
    return said


def _books(layout: Layout) -> dict[str, Any]:
    try:
        accounts = ledger.accounts(layout)
    except PlantroomError as error:
        return {"closes": None, "error": str(error)}
    return {
        "closes": all(account.closes for account in accounts),
        "books": len(accounts),
        "stored": sum(account.cloud.held.count for account in accounts if account.cloud),
        "queued": sum(account.queued.count for account in accounts),
        "at_sensors": sum(account.at_sensor.count for account in accounts),
        "faults": sum(len(account.faults) for account in accounts),
    }
