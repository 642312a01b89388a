"""Retained messages by topic, found by filter in O(matching subtree)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What is kept."""

    @property
    def size_bytes(self) -> int:
        """What it counts for in the sum."""
        ...


V = TypeVar("V", bound=Sized)


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
        levels = topic_filter.split("/")
        stack: list[tuple[_Node[V], int]] = [(self._root, 0)]
        while stack:
            node, number = stack.pop()
            if number == len(levels):
                if node.value is not None:
                    yield node.value
                continue
            level = levels[number]
            if level == "#":
                yield from _below(node, top=number == 0)
            elif level == "+":
                stack += [
                    (child, number + 1)
                    for name, child in node.children.items()
                    if number or not name.startswith("$")  # [MQTT-4.7.2-1]
                ]
            elif level in node.children:
                stack.append((node.children[level], number + 1))

    def values(self) -> Iterator[V]:
        """Give all values."""
        return _below(self._root, top=False)


def _below(node: _Node[V], *, top: bool) -> Iterator[V]:
    stack = [node]
    while stack:
        node = stack.pop()
        if node.value is not None:
            yield node.value
        for name, child in node.children.items():
            if not (top and name.startswith("$")):  # [MQTT-4.7.2-1]
                stack.append(child)
        top = False
