"""A decision document becomes a Decision, and anything else becomes a denial."""

import math
from collections.abc import Mapping
from typing import Any

from plantroom.wire.policy import Decision, Question

TTL_S_MAX = 300.0
_KEYS = {"allow", "reason", "ttl_s", "revision", "rule"}
_TEXTS = ("reason", "revision", "rule")


def document_of(question: Question) -> dict[str, Any]:
    """Return the input document of a question, field for field."""
    return {
        "spiffe_id": question.spiffe_id,
        "cert_serial": question.cert_serial,
        "client_id": question.client_id,
        "action": question.action,
        "topic": question.topic,
        "qos": question.qos,
        "retain": question.retain,
    }


def read(document: object, *, decision_id: str, source: str, revision: str) -> Decision:
    """Read a policy's answer; only one that is whole in every part can allow.

    `revision` stands in where the document has none that can be trusted.
    """
    fault = fault_in(document)
    if fault or not isinstance(document, Mapping):
        return denial(fault, decision_id=decision_id, source=source, revision=revision)
    return Decision(
        allow=document["allow"] is True,
        reason=document["reason"],
        ttl_s=min(float(document["ttl_s"]), TTL_S_MAX),
        revision=document["revision"],
        decision_id=decision_id,
        source=source,
        rule=document["rule"],
    )


def fault_in(document: object) -> str:
    """Return the word for what is wrong with an answer's form, empty for nothing."""
    if not isinstance(document, Mapping):
        return "undefined-answer"
    whole = (
        document.keys() >= _KEYS
        and all(isinstance(document[key], str) for key in _TEXTS)
        and isinstance(document["allow"], bool)
        and document["allow"] == (document["reason"] == "ok")
        and isinstance(document["ttl_s"], int | float)
        and not isinstance(document["ttl_s"], bool)
        and math.isfinite(document["ttl_s"])
        and document["ttl_s"] >= 0
    )
    return "" if whole else "malformed-answer"


def denial(reason: str, *, decision_id: str, source: str, revision: str) -> Decision:
    """Return the denial that a fault is: with its reason, and never to be kept."""
    return Decision(
        allow=False,
        reason=reason,
        ttl_s=0.0,
        revision=revision,
        decision_id=decision_id,
        source=source,
        rule=f"{source}: {reason}",
    )
