"""An alarm as it is published: retained JSON on `alarm/{rule}/{device}`, for people and rules.

JSON and not CBOR, as views are: an inspector's tool shows it as it is.
"""

import json

from plantroom.wire import topics
from plantroom.wire.link import Message
from plantroom.wire.rfc3339 import format_us

PATTERN = "alarm/{rule}/{device}"
CONTENT_TYPE = "application/json"


def raised(site: str, rule: str, device: str, text: str, at_us: int) -> Message:
    """Return the message that raises an alarm; the same alarm again replaces it."""
    return _said("raised", site, rule, device, text, at_us)


def cleared(site: str, rule: str, device: str, text: str, at_us: int) -> Message:
    """Return the message that says that what was raised is over."""
    return _said("cleared", site, rule, device, text, at_us)


def _said(  # noqa: PLR0913, PLR0917 -- the fields of an alarm
    state: str, site: str, rule: str, device: str, text: str, at_us: int
) -> Message:
    said = {"state": state, "rule": rule, "device": device, "text": text, "at": format_us(at_us)}
    return Message(
        topic=topics.build(PATTERN, site, rule, device),
        payload=json.dumps(said).encode(),
        retain=True,
        content_type=CONTENT_TYPE,
    )
