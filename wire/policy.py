"""The policy seam: one question, one answer, asked before anything is acknowledged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Action = Literal["connect", "publish", "subscribe", "call"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May this principal do this? `topic` is a name, a filter, or empty for connect."""

    spiffe_id: str
    cert_serial: str
    client_id: str
    action: Action
    topic: str = ""
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer. Only `allow is True` allows; `reason` says why not in one word.

    `rule` names what decided: the grant that allows, or the check that failed. An answer with a
    `ttl_s` of 0 comes from a fault and may not be kept.
    """

    allow: bool
    reason: str
    ttl_s: float
    revision: str
    decision_id: str
    source: str
    rule: str = ""


class DecisionPoint(Protocol):
    """Whoever answers: embedded engine, OPA server, cache in front of either."""

    @property
    def generation(self) -> int:
        """Rises when policy, registry or revocations change: earlier answers may be wrong now."""
        ...

    def now(self, question: Question) -> Decision | None:
        """Answer without waiting, or None where that is not possible."""
        ...

    async def decide(self, question: Question) -> Decision:
        """Answer; every fault is a denial with a reason, never an exception."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after every change of `generation`."""
        ...
