"""The audit: one line for every connection, refusal and closing, as `key=value` pairs."""

import json
import logging
import re

from plantroom.broker.guard import Peer
from plantroom.wire.policy import Decision

LOGGER = logging.getLogger("plantroom.broker.audit")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+#$-]+")
_TEXT_MAX = 256


def record(  # noqa: PLR0913 -- the fields of a line
    event: str,
    peer: Peer,
    *,
    reason: str = "",
    topic: str = "",
    decision: Decision | None = None,
    level: int = logging.WARNING,
) -> None:
    """Write one line; empty fields are left out, and no text from outside can break a line."""
    fields = {
        "event": event,
        "spiffe_id": peer.spiffe_id,
        "client_id": peer.client_id,
        "peer": peer.address,
        "reason": reason or (decision.reason if decision else ""),
        "topic": topic,
        "decision_id": decision.decision_id if decision else "",
    }
    LOGGER.log(level, "%s", " ".join(f"{k}={_quoted(v)}" for k, v in fields.items() if v))


def note(event: str, spiffe_id: str, client_id: str, *, reason: str) -> None:
    """Write one line about a session, connected or not."""
    fields = {"event": event, "spiffe_id": spiffe_id, "client_id": client_id, "reason": reason}
    LOGGER.warning("%s", " ".join(f"{k}={_quoted(v)}" for k, v in fields.items() if v))


def _quoted(value: str) -> str:
    value = value[:_TEXT_MAX]
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
