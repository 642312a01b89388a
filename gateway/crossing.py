"""What besides readings crosses the bridge, and which way: the rules, and the queue upwards.

The direction follows from the topic alone, so nothing can circle. What is retained is remembered,
newest per topic, and told again at every connect; calls and replies that find no link are dropped
when their queue is full, and counted: whoever asks times out and asks again.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from plantroom.wire import topics
from plantroom.wire.errors import TopicError
from plantroom.wire.link import Message
from plantroom.wire.topics import FAMILIES, GATEWAY, Topic

Direction = Literal["up", "down"]
CLOUD_CALLER: Final = "cloud:"
CLOUD_SERVICES: Final = frozenset({"ingestion", "analytics", "dashboard", "ota", "devices"})
_PASSING_MAX: Final = 1_000
_RETAINED_MAX: Final = 50_000
_URGENT: Final = ("alarm", "reply")

_CROSSES = {"/".join((family.name, *family.levels)): family.crosses for family in FAMILIES}
_RETAINED = frozenset(
    "/".join((family.name, *family.levels)) for family in FAMILIES if family.retained
)
_IMAGES: Final[Mapping[str, Direction]] = {  # of the gateway's own downloads; no sensor's cross
    "ota/{device}/get": "up",
    "ota/{device}/chunk/{n}": "down",
}
_BRIDGE_OWN = frozenset(
    pattern for pattern in _CROSSES if pattern.startswith(("uplink/", "receipt/", "refill/"))
)


def direction(topic: Topic, *, site: str, trust_domain: str) -> Direction | None:
    """Say which way a topic of this building crosses, or that it does not."""
    crosses = _CROSSES[topic.pattern]
    if topic.pattern in _IMAGES:
        own = topic.site == site and topic.names[0] == GATEWAY
        return _IMAGES[topic.pattern] if own else None
    if topic.site != site or topic.pattern in _BRIDGE_OWN or crosses == "no":
        return None
    if crosses in {"up", "down"}:
        return "up" if crosses == "up" else "down"
    if topic.pattern.startswith("call/"):
        target, _, caller = topic.names
        if caller.startswith(CLOUD_CALLER):
            return None if target in CLOUD_SERVICES else "down"
        return "up" if target in CLOUD_SERVICES else None
    if topic.pattern.startswith("reply/"):
        return "up" if topic.names[0].startswith(CLOUD_CALLER) else "down"
    return "up" if topic.names[0] == trust_domain else "down"  # the building's own list and bundle


def is_retained(topic: Topic) -> bool:
    """Say whether brokers keep the newest message on a topic of this family."""
    return topic.pattern in _RETAINED


def upward_filters(site: str) -> list[str]:
    """Return the local filters of what may cross upwards."""
    return _image_filters(site, "up") + [
        topics.subscription(pattern, site)
        for pattern, crosses in _CROSSES.items()
        if crosses in {"up", "both"} and pattern not in _BRIDGE_OWN
    ]


def _image_filters(site: str, way: Direction) -> list[str]:
    return [
        topics.subscription(pattern, site, GATEWAY)
        for pattern, direction in _IMAGES.items()
        if direction == way
    ]


def downward_filters(site: str) -> list[str]:
    """Return the cloud's filters of what may cross downwards; replies are asked for one by one."""
    return _image_filters(site, "down") + [
        topics.subscription(pattern, site)
        for pattern, crosses in _CROSSES.items()
        if crosses in {"down", "both"}
        and pattern not in _BRIDGE_OWN
        and not pattern.startswith("reply/")
    ]


def _rank(pattern: str) -> int:
    """Return the place in line: alarms, then replies to commands, then everything else."""
    return next((n for n, word in enumerate(_URGENT) if pattern.startswith(word)), len(_URGENT))


def _rank_of_topic(topic: str) -> int:
    return _rank(topics.parse(topic).pattern)


class Upward:
    """Messages on their way from the building's broker to the cloud's, urgent ones first."""

    def __init__(self, *, site: str, trust_domain: str, own_publisher: str) -> None:
        self._site = site
        self._trust_domain = trust_domain
        self._own_publisher = own_publisher
        self._retained: dict[str, Message] = {}
        self._changed: dict[str, None] = {}
        self._waiting: tuple[deque[Message], ...] = tuple(deque() for _ in (*_URGENT, ""))
        self._news = asyncio.Event()
        self.dropped = 0

    def offer(self, message: Message, publisher: str) -> None:
        """Take a message of the building's broker, if it crosses upwards."""
        if publisher == self._own_publisher:
            return
        try:
            topic = topics.parse(message.topic)
        except TopicError:
            return
        if topic.pattern == "presence/{device}" and topic.names[0] == GATEWAY:
            return  # the gateway speaks for itself, with a will
        if direction(topic, site=self._site, trust_domain=self._trust_domain) != "up":
            return
        if is_retained(topic):
            self._remember(replace(message, retain=True), _rank(topic.pattern))
        else:
            self._pass(message, _rank(topic.pattern))
        self._news.set()

    def _remember(self, message: Message, rank: int) -> None:
        if message.topic not in self._retained and len(self._retained) >= _RETAINED_MAX:
            self.dropped += 1
            return
        self._retained[message.topic] = message
        if rank < len(_URGENT):
            self._pass(message, rank)
        else:
            self._changed[message.topic] = None

    def _pass(self, message: Message, rank: int) -> None:
        waiting = self._waiting[rank]
        if len(waiting) >= _PASSING_MAX:
            waiting.popleft()
            self.dropped += 1
        waiting.append(message)

    def resync(self) -> None:
        """Tell everything retained again, alarms first: the cloud's broker may be another one."""
        self._changed = dict.fromkeys(sorted(self._retained, key=_rank_of_topic))
        self._news.set()

    async def take(self) -> Message:
        """Wait for the next message: alarms, then replies, then calls, then what is retained."""
        while True:
            for waiting in self._waiting:
                if waiting:
                    return waiting.popleft()
            if self._changed:
                topic = next(iter(self._changed))
                del self._changed[topic]
                return self._retained[topic]
            self._news.clear()
            await self._news.wait()

    def put_back(self, message: Message) -> None:
        """Return a message whose link was lost before it was acknowledged."""
        if message.topic in self._retained:
            self._changed[message.topic] = None
        else:
            self._waiting[_rank_of_topic(message.topic)].appendleft(message)
