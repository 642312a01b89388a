"""The subscription tree: who receives what is published to a topic, in O(levels).

Answers are remembered per topic and shared: topics with the same receivers get the same `Match`
object, so that a run of publishes is cut only where the receivers change. A subscription without
wildcards forgets one topic; one with wildcards forgets all.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from plantroom.broker.filters import split_share

MATCHES_MAX = 100_000
REMEMBERED_TOPIC_MAX = 256  # characters; longer ones are looked up each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """How a receiver wants its messages: QoS at most this, RETAIN kept, identifiers to name."""

    qos: int
    retain_as_published: bool = False
    no_local: bool = False
    identifiers: tuple[int, ...] = ()


class Receiver(Protocol):
    """What the tree needs to know of whoever subscribes."""

    @property
    def ready(self) -> bool:
        """Whether it is connected now (a shared subscription prefers those)."""
        ...


R = TypeVar("R", bound=Receiver)


class Share(Generic[R]):
    """The members of one shared subscription; each message goes to one of them, in turn."""

    __slots__ = ("_turns", "members")

    def __init__(self) -> None:
        self.members: dict[R, Grant] = {}
        self._turns: deque[R] = deque()

    def put(self, receiver: R, grant: Grant) -> bool:
        """Let a receiver join, or replace its grant; True if it is new."""
        new = receiver not in self.members
        self.members[receiver] = grant
        if new:
            self._turns.append(receiver)
        return new

    def drop(self, receiver: R) -> bool:
        """Let a receiver leave; False if it is no member."""
        if self.members.pop(receiver, None) is None:
            return False
        self._turns.remove(receiver)
        return True

    # [MQTT-4.8.2-3], [MQTT-4.8.2-4]
    def choose(self) -> tuple[R, Grant] | None:
        """Return whose turn it is: the next who is connected, else the next at all."""
        turns = self._turns
        for _ in range(len(turns)):
            turns.rotate(-1)
            if turns[-1].ready:
                break
        else:
            if not turns:
                return None
            turns.rotate(-1)
        return turns[-1], self.members[turns[-1]]


@dataclass(eq=False, slots=True)
class Match(Generic[R]):
    """Who receives: each receiver once, and one of each share."""

    entries: tuple[tuple[R, Grant], ...] = ()
    shares: tuple[Share[R], ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nobody receives."""
        return not self.entries and not self.shares


@dataclass(eq=False, slots=True)
class _Node(Generic[R]):
    children: "dict[str, _Node[R]]" = field(default_factory=dict)
    receivers: dict[R, Grant] = field(default_factory=dict)
    shares: dict[str, Share[R]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.children and not self.receivers and not self.shares


class Tree(Generic[R]):
    """Subscriptions by topic filter."""

    def __init__(self) -> None:
        self._root: _Node[R] = _Node()
        self._matches: dict[str, Match[R]] = {}
        self._same: dict[object, Match[R]] = {}
        self.nobody: Match[R] = Match()
        self.size = 0
        self.generation = 0

    def add(self, topic_filter: str, receiver: R, grant: Grant) -> bool:
        """Subscribe, or replace the grant [MQTT-3.8.4-3]; True if the subscription is new."""
        group, plain = split_share(topic_filter)
        node = self._root
        for level in plain.split("/"):
            node = node.children.setdefault(level, _Node())
        if group:
            new = node.shares.setdefault(group, Share()).put(receiver, grant)
        else:
            new = receiver not in node.receivers
            node.receivers[receiver] = grant
        self.size += new
        self._forget(plain)
        return new

    def remove(self, topic_filter: str, receiver: R) -> bool:
        """Unsubscribe; False if there was no such subscription."""
        group, plain = split_share(topic_filter)
        path: list[tuple[_Node[R], str]] = []
        node = self._root
        for level in plain.split("/"):
            path.append((node, level))
            found = node.children.get(level)
            if found is None:
                return False
            node = found
        share = node.shares.get(group)
        if group:
            left = share is not None and share.drop(receiver)
        else:
            left = node.receivers.pop(receiver, None) is not None
        if not left:
            return False
        if share is not None and not share.members:
            del node.shares[group]
        for parent, level in reversed(path):
            if not parent.children[level].empty:
                break
            del parent.children[level]
        self.size -= 1
        self._forget(plain)
        return True

    def _forget(self, topic_filter: str) -> None:
        self.generation += 1
        if "+" in topic_filter or "#" in topic_filter:
            self._matches.clear()
            self._same.clear()
        else:
            self._matches.pop(topic_filter, None)

    def match(self, topic: str) -> Match[R]:
        """Return who receives a publish to `topic`."""
        found = self._matches.get(topic)
        if found is None:
            if len(self._matches) >= MATCHES_MAX:
                self._matches.clear()
                self._same.clear()
            found = self._shared(self._search(topic, None))
            if len(topic) <= REMEMBERED_TOPIC_MAX:
                self._matches[topic] = found
        return found

    def match_without(self, topic: str, publisher: R) -> Match[R]:
        """Like `match`, leaving out the publisher's own no-local subscriptions [MQTT-3.8.3-3]."""
        return self._search(topic, publisher)

    def _shared(self, match: Match[R]) -> Match[R]:
        if match.empty:
            return self.nobody
        key = (match.entries, tuple(map(id, match.shares)))
        return self._same.setdefault(key, match)

    def _search(self, topic: str, publisher: R | None) -> Match[R]:
        found: dict[R, Grant] = {}
        several: dict[R, list[Grant]] = {}  # overlapping: merged once, however many
        shares: list[Share[R]] = []
        for node in self._nodes(topic):
            for receiver, grant in node.receivers.items():
                if receiver is publisher and grant.no_local:
                    continue
                first = found.setdefault(receiver, grant)
                if first is not grant:
                    several.setdefault(receiver, [first]).append(grant)
            shares.extend(node.shares.values())
        found.update((receiver, _merged(grants)) for receiver, grants in several.items())
        return Match(tuple(found.items()), tuple(shares))

    # [MQTT-3.3.2-3], [MQTT-4.7.3-4]
    def _nodes(self, topic: str) -> Iterator[_Node[R]]:
        levels = topic.split("/")
        depth = len(levels)
        system = topic.startswith("$")
        stack = [(self._root, 0)]
        while stack:
            node, number = stack.pop()
            children = node.children
            if not (system and number == 0) and "#" in children:  # [MQTT-4.7.2-1]
                yield children["#"]
            if number == depth:
                yield node
                continue
            exact = children.get(levels[number])
            if exact is not None:
                stack.append((exact, number + 1))
            if not (system and number == 0):
                any_level = children.get("+")
                if any_level is not None:
                    stack.append((any_level, number + 1))


def _merged(grants: list[Grant]) -> Grant:
    """Merge overlapping subscriptions: one copy, highest QoS, all identifiers [MQTT-3.3.4-2]."""
    return Grant(
        qos=max(grant.qos for grant in grants),
        retain_as_published=any(grant.retain_as_published for grant in grants),
        identifiers=tuple(sorted({number for grant in grants for number in grant.identifiers})),
    )
