"""The policy seam's values: nothing but an explicit yes allows, and nothing changes afterwards."""

import dataclasses

import pytest

from plantroom.wire.policy import Decision, Question


def test_a_question_about_a_connection_needs_no_topic() -> None:
    question = Question(spiffe_id="spiffe://a/b", cert_serial="01", client_id="b", action="connect")
    assert (question.topic, question.qos, question.retain) == ("", 0, False)


def test_questions_can_be_keys_of_a_cache() -> None:
    def ask(topic: str) -> Question:
        return Question(
            spiffe_id="spiffe://a/b", cert_serial="1", client_id="b", action="publish", topic=topic
        )

    assert {ask("t"): 1}[ask("t")] == 1
    assert ask("t") != ask("u")


def test_a_decision_never_changes() -> None:
    decision = Decision(
        allow=False, reason="not-own-topic", ttl_s=300, revision="r", decision_id="d", source="s"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        decision.allow = True  # type: ignore[misc]
