from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker.filters import matches
from plantroom.broker.tree import Grant, Tree
from tests.broker.test_filters import NAME, filters


class Someone:
    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready


STEPS = st.lists(st.tuples(st.integers(0, 3), filters(), st.integers(0, 2), st.booleans()))


@given(STEPS, st.lists(NAME, min_size=1, max_size=5))
def test_tree_finds_whom_a_brute_force_search_finds(
    steps: list[tuple[int, str, int, bool]], topics: list[str]
) -> None:
    people = [Someone() for _ in range(4)]
    tree: Tree[Someone] = Tree()
    wanted: dict[tuple[int, str], int] = {}
    for who, topic_filter, qos, leaves in steps:
        if leaves:
            known = wanted.pop((who, topic_filter), None) is not None
            assert tree.remove(topic_filter, people[who]) is known
        else:
            new = (who, topic_filter) not in wanted
            assert tree.add(topic_filter, people[who], Grant(qos=qos)) is new
            wanted[who, topic_filter] = qos
        assert tree.size == len(wanted)
        for topic in topics:  # answers are remembered in between: none may be stale
            expected: dict[int, int] = {}
            for (person, pattern), level in wanted.items():
                if matches(pattern, topic):
                    expected[person] = max(expected.get(person, 0), level)
            found = {people.index(p): grant.qos for p, grant in tree.match(topic).entries}
            assert found == expected


def test_topics_with_the_same_receivers_share_one_match() -> None:
    tree: Tree[Someone] = Tree()
    assert tree.match("x") is tree.nobody
    tree.add("a/#", Someone(), Grant(qos=1))
    assert tree.match("a/1") is tree.match("a/2")
    assert tree.match("b") is tree.match("c") is tree.nobody


def test_empty_branches_are_cut_off() -> None:
    tree: Tree[Someone] = Tree()
    who = Someone()
    for topic_filter in ("a/b/c", "$share/g/a/b"):
        tree.add(topic_filter, who, Grant(qos=0))
    for topic_filter in ("a/b/c", "$share/g/a/b"):
        assert tree.remove(topic_filter, who)
    assert tree._root.empty


def test_share_takes_turns_and_prefers_who_is_there() -> None:
    tree: Tree[Someone] = Tree()
    people = [Someone(), Someone(), Someone(ready=False)]
    for person in people:
        tree.add("$share/g/a", person, Grant(qos=1))
    (share,) = tree.match("a").shares
    chosen = [people.index(share.choose()[0]) for _ in range(6)]  # type: ignore[index]
    assert set(chosen) == {0, 1}
    assert sorted(chosen) == [0, 0, 0, 1, 1, 1]
    people[0].ready = people[1].ready = False
    away = [people.index(share.choose()[0]) for _ in range(6)]  # type: ignore[index]
    assert sorted(away) == [0, 0, 1, 1, 2, 2]
    assert tree.remove("$share/g/a", people[1])
    assert {share.choose()[0] for _ in range(3)} == {people[0], people[2]}  # type: ignore[index]


def test_no_local_leaves_out_the_publisher_only() -> None:
    tree: Tree[Someone] = Tree()
    one, other = Someone(), Someone()
    tree.add("a", one, Grant(qos=1, no_local=True))
    tree.add("a", other, Grant(qos=1, no_local=True))
    assert [who for who, _ in tree.match_without("a", one).entries] == [other]
    assert len(tree.match("a").entries) == 2
