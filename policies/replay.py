"""Ask recorded questions again of two bundles: which answers flip, and by which rules."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from plantroom.policies.bundle import Bundle
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.policy import Decision, Question

_TYPES: dict[str, type] = {
    "spiffe_id": str,
    "cert_serial": str,
    "client_id": str,
    "action": str,
    "topic": str,
    "qos": int,
    "retain": bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One question that two bundles answer differently; `times` it was recorded."""

    question: Question
    old: Decision
    new: Decision
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How many questions were asked, how often they were recorded, and which answers flip."""

    questions: int
    recorded: int
    flips: tuple[Flip, ...]


def question_of(document: Mapping[str, Any]) -> Question | None:
    """Return the question that an input document is, None if it is none."""
    if any(type(document.get(name)) is not kind for name, kind in _TYPES.items()):
        return None
    fields: Any = {name: document[name] for name in _TYPES}
    return Question(**fields)


def compare(
    old: Bundle,
    new: Bundle,
    documents: Iterable[Mapping[str, Any]],
    *,
    registry: Mapping[str, Any],
    revocation: Mapping[str, Any],
) -> Comparison:
    """Ask both bundles everything on record, with the same registry and revocations.

    Raises:
        ConfigError: when a bundle does not compile or answer.
    """
    counts: dict[Question, int] = {}
    for document in documents:
        question = question_of(document)
        if question is not None:
            counts[question] = counts.get(question, 0) + 1
    points = [EmbeddedPoint(rules) for rules in (old, new)]
    flips = []
    for point in points:
        point.update(registry=registry, revocation=revocation)
    for question, times in counts.items():
        was, will_be = (point.now(question) for point in points)
        if was.allow != will_be.allow:
            flips.append(Flip(question=question, old=was, new=will_be, times=times))
    for point in points:
        point.close()
    return Comparison(questions=len(counts), recorded=sum(counts.values()), flips=tuple(flips))
