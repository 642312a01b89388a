"""Which alarms stand, and why: so that each can be cleared once its last cause is gone.

Alarms outlive a process as retained messages: what an earlier life raised is heard again at the
start, its causes unknown, and is over with the first of them that is.
"""

import json
from collections import OrderedDict
from typing import Final

from plantroom.wire import topics
from plantroom.wire.errors import TopicError
from plantroom.wire.link import Message

STANDING_MAX: Final = 10_000
CAUSES_MAX: Final = 1_000
UNKNOWN: Final = ""
Name = tuple[str, str, str]  # site, rule, device


class Standing:
    """The alarms that stand, each with its causes."""

    def __init__(self) -> None:
        self._causes: OrderedDict[Name, set[str]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._causes)

    def __contains__(self, name: Name) -> bool:
        return name in self._causes

    def raised(self, name: Name, cause: str = UNKNOWN) -> None:
        """Note an alarm; beyond the bound the oldest is left for people to clear."""
        causes = self._causes.setdefault(name, set())
        if len(causes) < CAUSES_MAX:
            causes.add(cause)
        if len(self._causes) > STANDING_MAX:
            self._causes.popitem(last=False)

    def over(self, name: Name, cause: str = UNKNOWN) -> bool:
        """Note that a cause is gone; say whether the alarm stood and is over now."""
        causes = self._causes.get(name)
        if causes is None:
            return False
        causes -= {cause, UNKNOWN}
        if causes:
            return False
        del self._causes[name]
        return True

    def causes(self, name: Name) -> frozenset[str]:
        """Return why an alarm stands."""
        return frozenset(self._causes.get(name, ()))

    def heard(self, message: Message, _publisher: str = "") -> None:
        """Take an alarm as it passes the broker: one that is retained from an earlier life."""
        try:
            topic = topics.parse(message.topic)
            state = json.loads(message.payload).get("state")
        except (TopicError, ValueError, AttributeError):
            return
        rule, device = topic.names
        name = (topic.site, rule, device)
        if state == "raised":
            if name not in self._causes:
                self.raised(name)
        else:
            self._causes.pop(name, None)
