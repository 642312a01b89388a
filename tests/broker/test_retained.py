from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker.filters import matches
from plantroom.broker.retained import Retained
from tests.broker.test_filters import NAME, filters


class Text(str):
    """What is kept, and counts for as much as it is long."""

    __slots__ = ()

    @property
    def size_bytes(self) -> int:
        return len(self)


@given(st.lists(st.tuples(NAME, st.booleans())), filters())
def test_filter_finds_what_a_brute_force_search_finds(
    steps: list[tuple[str, bool]], topic_filter: str
) -> None:
    retained: Retained[Text] = Retained()
    known: dict[str, Text] = {}
    for topic, keep in steps:
        former = known.pop(topic, None)
        if keep:
            known[topic] = Text(topic * 2)
        assert retained.put(topic, Text(topic * 2) if keep else None) == former
        assert retained.get(topic) == known.get(topic)
        assert retained.size == len(known)
        assert retained.size_bytes == sum(map(len, known.values()))
    in_order = sorted(known, key=lambda topic: topic.split("/"))
    expected = [known[topic] for topic in in_order if matches(topic_filter, topic)]
    assert list(retained.matching(topic_filter)) == expected
    assert sorted(retained.values()) == sorted(known.values())


def test_nothing_remains_of_what_was_removed() -> None:
    retained: Retained[Text] = Retained()
    retained.put("a/b/c", Text("x"))
    retained.put("a/b/c", None)
    assert not retained._root.children
    assert retained.put("never/there", None) is None
