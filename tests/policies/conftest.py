"""A small world to ask about: one building and its cloud."""

from collections.abc import Callable
from typing import Any

import pytest

from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.policy import Question

BUILDING = "spiffe://building-1.smart.local/agent/"
CLOUD = "spiffe://smart-building.cloud/"


def _entry(role: str, site: str, device: str) -> dict[str, str]:
    return {"role": role, "site": site, "device": device, "status": "active"}


@pytest.fixture
def world() -> dict[str, Any]:
    services = ("ingestion", "analytics", "dashboard", "devices", "ota", "front")
    devices = {CLOUD + "agent/" + name: _entry(name, "cloud", name) for name in services}
    devices |= {
        BUILDING + "hvac-001": _entry("sensor", "building-1", "hvac-001"),
        BUILDING + "hvac-002": _entry("sensor", "building-1", "hvac-002"),
        BUILDING + "gateway": _entry("gateway", "building-1", "gateway"),
        CLOUD + "gateway/building-1": _entry("uplink", "building-1", "building-1"),
        CLOUD + "operator/ann": _entry("operator", "cloud", "ann"),
        CLOUD + "inspector/eve": _entry("inspector", "cloud", "eve"),
    }
    return {
        "registry": {"devices": devices},
        "revocation": {"generation": 1, "spiffe_ids": {}, "serials": {}},
    }


@pytest.fixture
def ask() -> Callable[..., Question]:
    """Make a question: hvac-001 publishes its telemetry, with what the test says instead."""

    def made(**fields: Any) -> Question:
        telemetry: dict[str, Any] = {
            "spiffe_id": BUILDING + "hvac-001",
            "cert_serial": "0a",
            "client_id": "hvac-001",
            "action": "publish",
            "topic": "v1/building-1/telemetry/hvac-001",
            "qos": 1,
        }
        return Question(**(telemetry | fields))

    return made


@pytest.fixture
def point(world: dict[str, Any]) -> EmbeddedPoint:
    made = EmbeddedPoint.load()
    made.update(**world)
    return made
