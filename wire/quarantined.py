"""What was set apart instead of being mixed with the others, as people are shown it.

Gateway and cloud each have a quarantine of their own; both list theirs in this form.
"""

from dataclasses import dataclass

REPLAYED = "replayed"
DROPPED = "dropped: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One thing in quarantine; a range, as far as it is known.

    `size` is None when its bytes are not kept: there was no more room, or it has an `outcome`
    (`replayed`, or `dropped: ` and why) since `outcome_us`.
    """

    name: str
    device: str
    epoch: int | None
    first: int | None
    last: int | None
    reason: str
    text: str
    hash: bytes
    at_us: int
    size: int | None
    outcome: str = ""
    outcome_us: int | None = None


def why_not(item: Quarantined) -> str:
    """Return the empty text when something can still be done about it, or why not."""
    if item.outcome:
        return f"it was {item.outcome} already"
    return "" if item.size is not None else "its bytes are not kept: there was no more room"
