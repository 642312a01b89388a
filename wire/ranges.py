"""Sets of sequence numbers as sorted, disjoint, inclusive ranges: what books are made of."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Give ascending numbers as inclusive ranges."""
    first = last = -2
    for number in numbers:
        if number == last + 1:
            last = number
            continue
        if first >= 0:
            yield first, last
        first = last = number
    if first >= 0:
        yield first, last


class RangeSet:
    """A set of non-negative integers that costs O(gaps), not O(members)."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add `first` to `last`, both included; neighbours are joined."""
        last = first if last is None else last
        if not 0 <= first <= last:
            raise ValueError(f"not a range: {first} to {last}")
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def discard(self, first: int, last: int | None = None) -> None:
        """Take `first` to `last` out, as far as they are in."""
        last = first if last is None else last
        if not 0 <= first <= last:
            raise ValueError(f"not a range: {first} to {last}")
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        rest = []
        if low < high:
            if self._firsts[low] < first:
                rest.append((self._firsts[low], first - 1))
            if self._lasts[high - 1] > last:
                rest.append((last + 1, self._lasts[high - 1]))
        self._firsts[low:high] = [a for a, _ in rest]
        self._lasts[low:high] = [b for _, b in rest]

    def __contains__(self, member: int) -> bool:
        at = bisect_left(self._lasts, member)
        return at < len(self._firsts) and self._firsts[at] <= member

    def covers(self, first: int, last: int) -> bool:
        """Say whether every number from `first` to `last` is in."""
        at = bisect_left(self._lasts, first)
        return at < len(self._firsts) and self._firsts[at] <= first and self._lasts[at] >= last

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Give the ranges in order, as (first, last)."""
        return iter(zip(tuple(self._firsts), tuple(self._lasts), strict=True))

    @property
    def count(self) -> int:
        """How many members there are; no `len`, which `list` would make room for: 2**53 of them."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RangeSet({list(self)!r})"

    def copy(self) -> "RangeSet":
        """Return an independent copy."""
        other = RangeSet()
        other._firsts, other._lasts = self._firsts[:], self._lasts[:]
        return other

    @property
    def highest(self) -> int | None:
        """The largest member."""
        return self._lasts[-1] if self._lasts else None

    @property
    def lowest(self) -> int | None:
        """The smallest member."""
        return self._firsts[0] if self._firsts else None

    def holes(self, upto: int) -> "RangeSet":
        """Return what is missing from 0 to `upto`, both included."""
        missing = RangeSet([(0, upto)]) if upto >= 0 else RangeSet()
        for first, last in self:
            missing.discard(first, last)
        return missing
