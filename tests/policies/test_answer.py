from typing import Any

import pytest

from plantroom.policies import answer
from plantroom.wire.policy import Decision

GOOD: dict[str, Any] = {
    "allow": True,
    "reason": "ok",
    "ttl_s": 300,
    "revision": "r1",
    "rule": "sensor may connect",
}


def read(document: object) -> Decision:
    return answer.read(document, decision_id="d1", source="test", revision="r0")


def test_a_whole_answer_is_taken_as_it_is() -> None:
    assert read(GOOD) == Decision(
        allow=True,
        reason="ok",
        ttl_s=300.0,
        revision="r1",
        decision_id="d1",
        source="test",
        rule="sensor may connect",
    )
    denied = read(GOOD | {"allow": False, "reason": "revoked", "ttl_s": 15})
    assert (denied.allow, denied.reason, denied.ttl_s) == (False, "revoked", 15.0)


def test_what_a_later_policy_adds_is_ignored() -> None:
    assert read(GOOD | {"obligations": []}).allow


def test_a_policy_cannot_ask_for_a_longer_life_than_the_ceiling() -> None:
    assert read(GOOD | {"ttl_s": 1e9}).ttl_s == answer.TTL_S_MAX


@pytest.mark.parametrize("document", [None, "<undefined>", True, [], 1, ["allow"]])
def test_what_is_not_a_document_is_denied(document: object) -> None:
    decision = read(document)
    assert (decision.allow, decision.reason, decision.ttl_s) == (False, "undefined-answer", 0.0)
    assert decision.revision == "r0"


@pytest.mark.parametrize("key", sorted(GOOD))
def test_a_document_with_a_part_missing_is_denied(key: str) -> None:
    decision = read({name: value for name, value in GOOD.items() if name != key})
    assert (decision.allow, decision.reason, decision.ttl_s) == (False, "malformed-answer", 0.0)


MALFORMED: dict[str, list[object]] = {
    "allow": [1, "true", "allow", [True], {}, None, False],  # False, and yet "ok"
    "reason": [None, "revoked", "", 1],
    "ttl_s": [-1, "300", None, True, float("nan"), float("inf")],
    "revision": [7],
    "rule": [None],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in MALFORMED.items() for value in values]
)
def test_a_document_of_another_form_is_denied(key: str, value: object) -> None:
    decision = read(GOOD | {key: value})
    assert (decision.allow, decision.reason, decision.ttl_s) == (False, "malformed-answer", 0.0)
