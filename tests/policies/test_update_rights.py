"""Who may say what about updates: everybody else is refused, whatever they publish."""

from collections.abc import Callable
from typing import Any

import pytest

from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.policy import Question

Ask = Callable[..., Question]
BUILDING = "spiffe://building-1.smart.local/agent/"
CLOUD = "spiffe://smart-building.cloud/"
WHO = {
    "hvac-001": BUILDING + "hvac-001",
    "hvac-002": BUILDING + "hvac-002",
    "gateway": BUILDING + "gateway",
    "uplink": CLOUD + "gateway/building-1",
    "operator": CLOUD + "operator/ann",
    "inspector": CLOUD + "inspector/eve",
    **{name: CLOUD + f"agent/{name}" for name in ("ota", "ingestion", "dashboard", "devices")},
    "stranger": BUILDING + "hvac-999",
}
SITE = "v1/building-1/"
AUTHORS = {"operator", "ota", "gateway"}
PUBLISH = {
    "ota/trust/2": (True, AUTHORS),
    "ota/head": (True, AUTHORS),
    "ota/hvac/manifest": (True, AUTHORS),
    "ota/hvac-001/assign": (True, {"ota", "gateway"}),
    "ota/hvac-001/chunk/7": (False, {"ota", "gateway"}),
    "ota/hvac-001/get": (False, {"hvac-001"}),
    "ota/hvac-001/state": (True, {"hvac-001", "uplink"}),
    "ota/gateway/get": (False, {"uplink"}),
    "fw/abc/7": (False, {"gateway"}),
}


@pytest.mark.parametrize("rest", PUBLISH)
def test_only_these_may_publish_it(point: EmbeddedPoint, ask: Ask, rest: str) -> None:
    retain, wanted = PUBLISH[rest]
    allowed = {
        name
        for name, spiffe_id in WHO.items()
        if point.now(ask(spiffe_id=spiffe_id, topic=SITE + rest, retain=retain)).allow
    }
    assert allowed == wanted


def test_only_an_operator_uploads_images_to_the_cloud(point: EmbeddedPoint, ask: Ask) -> None:
    topic = "v1/cloud/fw/abc/7"
    allowed = {n for n, one in WHO.items() if point.now(ask(spiffe_id=one, topic=topic)).allow}
    assert allowed == {"operator"}


@pytest.mark.parametrize("rest", ["ota/hvac-001/chunk/+", "ota/hvac-001/assign"])
def test_a_device_hears_nothing_that_is_another_ones(
    point: EmbeddedPoint, ask: Ask, rest: str
) -> None:
    for name, allowed in (("hvac-001", True), ("hvac-002", False), ("stranger", False)):
        question = ask(spiffe_id=WHO[name], topic=SITE + rest, action="subscribe")
        assert point.now(question).allow is allowed, name


def test_a_revoked_device_asks_for_nothing_any_more(
    point: EmbeddedPoint, ask: Ask, world: dict[str, Any]
) -> None:
    question = ask(topic=SITE + "ota/hvac-001/get")
    assert point.now(question).allow
    revocation = {"generation": 2, "spiffe_ids": {WHO["hvac-001"]: "stolen"}, "serials": {}}
    point.update(registry=world["registry"], revocation=revocation)
    decision = point.now(question)
    assert (decision.allow, decision.reason) == (False, "revoked")
