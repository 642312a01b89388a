from collections.abc import Callable
from typing import Any

import pytest

from plantroom import policies
from plantroom.policies import bundle, nearest
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.policies.nearest import Known, Nearest
from plantroom.wire.policy import Question

Ask = Callable[..., Question]
Find = Callable[[Question], Nearest | None]
ACL = bundle.load(policies.bundle_dir()).data["acl"]
ANN = "spiffe://smart-building.cloud/operator/ann"
EVE = "spiffe://smart-building.cloud/inspector/eve"
UPLINK = "spiffe://smart-building.cloud/gateway/building-1"


@pytest.fixture
def find(point: EmbeddedPoint, world: dict[str, Any]) -> Find:
    known = Known(registry=world["registry"], revocation=world["revocation"])
    return lambda question: nearest.find(point, question, known, ACL)


def test_what_is_allowed_needs_nothing(find: Find, ask: Ask) -> None:
    assert find(ask()) is None


def test_of_a_foreign_topic_the_own_one_is_nearest(find: Find, ask: Ask) -> None:
    found = find(ask(topic="v1/building-1/telemetry/hvac-002"))
    assert found is not None
    assert found.rule == "sensor may publish v1/{site}/telemetry/{name}"
    assert "the topic v1/building-1/telemetry/hvac-001 instead of" in found.missing[0]


def test_of_a_wide_filter_the_grant_below_it_is_nearest(find: Find, ask: Ask) -> None:
    found = find(ask(action="subscribe", topic="v1/building-1/reply/#"))
    assert found is not None
    assert found.rule == "sensor may subscribe v1/{site}/reply/{self}/+"


def test_a_retained_reading_would_do_without_retain(find: Find, ask: Ask) -> None:
    found = find(ask(retain=True))
    assert found is not None
    assert "RETAIN" in found.missing[0]
    assert len(found.missing) == 1


def test_a_client_id_that_is_not_ones_own(find: Find, ask: Ask) -> None:
    found = find(ask(action="connect", topic="", client_id="x", qos=0))
    assert found == Nearest(rule="sensor may connect", missing=("the client id 'hvac-001'",))


def test_several_things_may_be_missing(find: Find, ask: Ask) -> None:
    stranger = "spiffe://building-1.smart.local/agent/hvac-009"
    found = find(ask(spiffe_id=stranger, client_id="hvac-009", retain=True))
    assert found is not None
    assert found.rule == "sensor may publish v1/{site}/telemetry/{name}"
    assert found.missing[0] == "a registration entry (role sensor)"
    assert "hvac-009" in found.missing[1]
    assert "without RETAIN" in found.missing[1]


def test_a_revoked_device_would_have_to_be_restored(
    point: EmbeddedPoint, world: dict[str, Any], ask: Ask
) -> None:
    revocation = {"generation": 2, "spiffe_ids": {ask().spiffe_id: "lost"}, "serials": {}}
    entry = world["registry"]["devices"][ask().spiffe_id]
    entry["status"] = "revoked"
    point.update(registry=world["registry"], revocation=revocation)
    known = Known(registry=world["registry"], revocation=revocation)
    found = nearest.find(point, ask(), known, ACL)
    assert found is not None
    assert found.rule
    assert found.missing == (
        "not being revoked (revoked)",
        "a registration entry with status 'active' instead of 'revoked'",
    )
    assert point.now(ask()).reason == "revoked", "what was tried is put back"


def test_an_uplink_and_an_operator_speak_for_themselves(find: Find, ask: Ask) -> None:
    bundle_topic = "v1/building-1/bundle/building-2.smart.local"
    found = find(ask(spiffe_id=UPLINK, client_id="building-1", topic=bundle_topic))
    assert found is not None
    assert found.rule == "uplink may publish v1/{site}/bundle/{domain}"
    call = "v1/building-1/call/hvac-001/read_sensors/cloud:operator:bob"
    found = find(ask(spiffe_id=ANN, client_id="x", topic=call))
    assert found is not None
    assert found.rule == "operator may publish v1/+/call/+/+/{self}"
    assert "cloud:operator:ann" in found.missing[0]


def test_where_no_rule_would_do_it_is_said(find: Find, ask: Ask) -> None:
    found = find(ask(spiffe_id=EVE, client_id="x", topic="v1/building-1/presence/eve"))
    assert found is not None
    assert found.rule == ""
    assert found.missing == ("no rule for this (topic-not-granted)",)
    found = find(ask(spiffe_id="nobody"))
    assert found is not None
    assert found.rule == ""
    assert "bad-identity" in found.missing[0]
