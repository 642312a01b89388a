import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.broker.errors import LimitError, PacketError
from plantroom.broker.filters import (
    any_matches,
    check_name,
    check_size,
    filter_fault,
    matches,
    split_share,
)
from plantroom.broker.settings import BrokerLimits

LIMITS = BrokerLimits()
LEVEL = st.sampled_from(["a", "b", "", "$x", "long level"])
NAME = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(LEVEL, st.just("+")), max_size=5))
    if not levels or draw(st.booleans()):
        levels.append("#")
    return "/".join(levels) or "#"


@pytest.mark.parametrize("name", ["", "a/+", "#", "a#b"])
def test_name_with_wildcards_or_nothing_is_malformed(name: str) -> None:
    with pytest.raises(PacketError):
        check_name(name, LIMITS)


def test_depth_is_limited() -> None:
    limits = BrokerLimits(topic_levels_max=2)
    assert check_name("a/b", limits) == "a/b"
    with pytest.raises(LimitError) as caught:
        check_name("a/b/c", limits)
    assert caught.value.limit == "topic_levels_max"


@pytest.mark.parametrize("topic", ["x" * 65, "é" * 33])
def test_length_is_limited_in_bytes(topic: str) -> None:
    limits = BrokerLimits(topic_bytes_max=64)
    check_size(topic[1:], limits)
    with pytest.raises(LimitError) as caught:
        check_size(topic, limits)
    assert caught.value.limit == "topic_bytes_max"


@pytest.mark.parametrize(
    "bad", ["", "a/#/b", "a#", "a+/b", "+a", "$share/g", "$share//a", "$share/+/a", "$share/g/"]
)
def test_bad_filter_has_a_fault(bad: str) -> None:
    assert filter_fault(bad)


@given(filters())
def test_good_filter_has_none(topic_filter: str) -> None:
    assert filter_fault(topic_filter) is None


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a", False),
        ("+", "/a", False),
        ("+/+", "/a", True),
        ("/+", "/a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/b", "a/b/c", False),
    ],
)
def test_matching(topic_filter: str, topic: str, *, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected
    assert any_matches(("nothing", topic_filter), topic) is expected


def test_share_is_split() -> None:
    assert split_share("$share/g/a/#") == ("g", "a/#")
    assert split_share("a/$share/b") == ("", "a/$share/b")
