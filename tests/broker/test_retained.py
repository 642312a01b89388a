from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker.filters import matches
from plantroom.broker.retained import Retained
from tests.broker.test_filters import NAME, filters


@given(st.lists(st.tuples(NAME, st.booleans())), filters())
def test_filter_finds_what_a_brute_force_search_finds(
    steps: list[tuple[str, bool]], topic_filter: str
) -> None:
    retained: Retained[str] = Retained()
    known: dict[str, str] = {}
    for topic, keep in steps:
        former = known.pop(topic, None)
        if keep:
            known[topic] = topic
        assert retained.put(topic, topic if keep else None) == former
        assert retained.get(topic) == known.get(topic)
        assert retained.size == len(known)
    expected = sorted(topic for topic in known if matches(topic_filter, topic))
    assert sorted(retained.matching(topic_filter)) == expected
    assert sorted(retained.values()) == sorted(known)


def test_nothing_remains_of_what_was_removed() -> None:
    retained: Retained[int] = Retained()
    retained.put("a/b/c", 1)
    retained.put("a/b/c", None)
    assert not retained._root.children
    assert retained.put("never/there", None) is None
