"""Retained messages by topic, found by filter in O(matching subtree)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from plantroom.broker.packets import Publish
from plantroom.broker.runs import Origin


class Sized(Protocol):
    """What is kept."""

    @property
    def size_bytes(self) -> int:
        """What it counts for in the sum."""
        ...


V = TypeVar("V", bound=Sized)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedMessage:
    """A retained message with its publisher and when it came."""

    message: Publish
    origin: Origin
    at_us: int
    volatile: bool
    number: int = 0  # rises with each that is retained

    @property
    def size_bytes(self) -> int:
        """What counts against the limit."""
        return len(self.message.topic) + len(self.message.payload)


@dataclass(eq=False, slots=True)
class _Node(Generic[V]):
    children: "dict[str, _Node[V]]" = field(default_factory=dict)
    value: V | None = None


class Retained(Generic[V]):
    """One value for each topic."""

    def __init__(self) -> None:
        self._root: _Node[V] = _Node()
        self.size = 0
        self.size_bytes = 0
        self.newest = 0  # number of the last that was made

    def get(self, topic: str) -> V | None:
        """Return the value of one topic."""
        node: _Node[V] | None = self._root
        for level in topic.split("/"):
            node = node.children.get(level) if node else None
        return node.value if node else None

    def put(self, topic: str, value: V | None) -> V | None:
        """Set or (None) remove a topic's value; return the former one."""
        if value is None:
            return self._remove(topic)
        node = self._root
        for level in topic.split("/"):
            node = node.children.setdefault(level, _Node())
        former, node.value = node.value, value
        self.size += former is None
        self.size_bytes += value.size_bytes - (former.size_bytes if former else 0)
        return former

    def _remove(self, topic: str) -> V | None:
        path: list[tuple[_Node[V], str]] = []
        node = self._root
        for level in topic.split("/"):
            path.append((node, level))
            found = node.children.get(level)
            if found is None:
                return None
            node = found
        former, node.value = node.value, None
        if former is not None:
            self.size -= 1
            self.size_bytes -= former.size_bytes
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.value is not None:
                break
            del parent.children[level]
        return former

    def matching(self, topic_filter: str) -> Iterator[V]:
        """Give the values of all topics that match a filter."""
        return (value for value in self.walk(topic_filter) if value is not None)

    def walk(self, topic_filter: str) -> Iterator[V | None]:
        """Like `matching`, but something for each level looked at, so that one can stop there.

        Values may come and go meanwhile: those that were there all the time are given, in the
        order of their levels, so that one can go on behind the last even after a restart.
        """
        levels = topic_filter.split("/")
        stack: list[tuple[_Node[V], int]] = [(self._root, 0)]
        while stack:
            node, number = stack.pop()
            if number == len(levels):
                yield node.value
                continue
            level = levels[number]
            if level == "#":
                yield from _below(node, top=number == 0)
                continue
            if level == "+":
                stack += [
                    (child, number + 1)
                    for name, child in _backwards(node)
                    if number or not name.startswith("$")  # [MQTT-4.7.2-1]
                ]
            elif level in node.children:
                stack.append((node.children[level], number + 1))
            yield None

    def values(self) -> Iterator[V]:
        """Give all values."""
        return (value for value in _below(self._root, top=False) if value is not None)


def _below(node: _Node[V], *, top: bool) -> Iterator[V | None]:
    stack = [node]
    while stack:
        node = stack.pop()
        for name, child in _backwards(node):
            if not (top and name.startswith("$")):  # [MQTT-4.7.2-1]
                stack.append(child)
        top = False
        yield node.value


def _backwards(node: _Node[V]) -> list[tuple[str, _Node[V]]]:
    """Return the levels below, the last first: what is put on a stack comes off the other way."""
    return sorted(node.children.items(), key=itemgetter(0), reverse=True)
