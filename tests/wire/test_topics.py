"""Topics: build and parse are inverses, and a name can never reach another level."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import topics
from plantroom.wire.errors import TopicError
from plantroom.wire.topics import FAMILIES, Topic

levels = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)
PATTERNS = ["/".join((family.name, *family.levels)) for family in FAMILIES]


def holes(pattern: str) -> int:
    return pattern.count("{")


@given(st.data(), st.sampled_from(PATTERNS), levels)
def test_parse_is_the_inverse_of_build(data: st.DataObject, pattern: str, site: str) -> None:
    names = tuple(data.draw(levels) for _ in range(holes(pattern)))
    text = topics.build(pattern, site, *names)
    parsed = topics.parse(text)
    assert str(parsed) == text
    assert (parsed.site, parsed.names) == (site, names) or parsed.pattern != pattern


@given(st.sampled_from(PATTERNS))
def test_ordinary_names_parse_to_the_pattern_they_were_built_from(pattern: str) -> None:
    names = ("name-1", "name-2", "name-3")[: holes(pattern)]
    assert topics.parse(topics.build(pattern, "s", *names)) == Topic("s", pattern, names)


@given(st.text(max_size=80))
def test_any_text_is_a_topic_or_a_topic_error(text: str) -> None:
    for candidate in (text, f"v1/building-1/{text}"):
        try:
            assert str(topics.parse(candidate)) == candidate
        except TopicError as error:
            assert error.what  # noqa: PT017 -- either way is right


@pytest.mark.parametrize(
    "name", ["", "a/b", "+", "#", "$SYS", "a b", "\u00e9", "a\n", "-a", "a" * 65]
)
def test_a_name_that_could_mean_more_than_one_level_is_refused(name: str) -> None:
    with pytest.raises(TopicError):
        topics.build("telemetry/{device}", "building-1", name)
    with pytest.raises(TopicError):
        topics.build("telemetry/{device}", name, "hvac-001")
    with pytest.raises(TopicError):
        topics.parse(f"v1/building-1/telemetry/{name}")


def test_the_number_of_names_has_to_fit() -> None:
    with pytest.raises(TopicError, match="needs a name"):
        topics.build("reply/{caller}/{id}", "cloud", "hvac-001")
    with pytest.raises(TopicError, match="too many"):
        topics.build("telemetry/{device}", "building-1", "a", "b")


@pytest.mark.parametrize(
    ("pattern", "names", "wanted"),
    [
        ("telemetry/{device}", (), "v1/+/telemetry/+"),
        ("telemetry/{device}", ("hvac-001",), "v1/+/telemetry/hvac-001"),
        ("call/{target}/{capability}/{caller}", ("hvac-001",), "v1/+/call/hvac-001/+/+"),
        ("policy", (), "v1/+/policy"),
    ],
)
def test_a_subscription_leaves_open_what_is_not_named(
    pattern: str, names: tuple[str, ...], wanted: str
) -> None:
    assert topics.subscription(pattern, "+", *names) == wanted


@pytest.mark.parametrize("name", ["#", "a/b", "a+", ""])
def test_a_subscription_takes_no_other_wildcard(name: str) -> None:
    with pytest.raises(TopicError):
        topics.subscription("telemetry/{device}", "+", name)
    with pytest.raises(TopicError):
        topics.subscription("telemetry/{device}", name, "hvac-001")


def test_a_subscription_with_too_many_names_is_refused() -> None:
    with pytest.raises(TopicError, match="too many"):
        topics.subscription("telemetry/{device}", "+", "a", "b")


def test_no_two_families_share_a_pattern_and_each_says_what_it_is() -> None:
    assert len(set(PATTERNS)) == len(PATTERNS)
    for family in FAMILIES:
        assert family.what
        for level in (family.name, *family.levels):
            assert re.fullmatch(r"\{[a-z-]+\}|[a-z]+", level)


def test_only_retained_state_and_messages_between_machines_cross_the_bridge() -> None:
    crossing = {family.name for family in FAMILIES if family.crosses != "no"}
    assert "telemetry" not in crossing  # readings cross in batches, with receipts
    assert {"uplink", "receipt", "refill", "call", "reply", "presence"} <= crossing
