"""A decision point with one answer: for a stand-alone broker, which loads no policy bundle."""

from collections.abc import Callable

from plantroom.wire.policy import Decision, Question

_TTL_S = 300.0


class OneAnswer:
    """Allows or denies everybody everything; implements DecisionPoint."""

    generation = 0

    def __init__(self, *, allow: bool) -> None:
        self._decision = Decision(
            allow=allow,
            reason="allow-all" if allow else "no-policy",
            ttl_s=_TTL_S,
            revision="",
            decision_id="",
            source="settings",
        )

    def now(self, question: Question) -> Decision:  # noqa: ARG002 -- whatever the question
        """Answer."""
        return self._decision

    async def decide(self, question: Question) -> Decision:
        """Answer."""
        return self.now(question)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Do nothing: the answer never changes."""
