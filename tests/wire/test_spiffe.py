"""SPIFFE IDs after the SPIFFE-ID specification, section 2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire.errors import SpiffeIdError
from plantroom.wire.spiffe import ID_BYTES_MAX, SpiffeId
from plantroom.wire.topics import check_level

CLOUD = "smart-building.cloud"


@given(
    st.from_regex(r"[a-z0-9._-]{1,40}", fullmatch=True),
    st.lists(st.from_regex(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,10}", fullmatch=True), min_size=1),
)
def test_parse_is_the_inverse_of_str(trust_domain: str, segments: list[str]) -> None:
    text = f"spiffe://{trust_domain}/{'/'.join(segments)}"
    if len(text) <= ID_BYTES_MAX:
        parsed = SpiffeId.parse(text)
        assert str(parsed) == text
        assert (parsed.trust_domain, parsed.name) == (trust_domain, segments[-1])


@pytest.mark.parametrize(
    ("level", "path"),
    [
        ("hvac-001", f"{CLOUD}.not/agent/hvac-001"),
        ("operator:ann", f"{CLOUD}.not/operator/ann"),
        ("cloud:ota", f"{CLOUD}/agent/ota"),
        ("cloud:operator:ann", f"{CLOUD}/operator/ann"),
    ],
)
def test_a_level_stands_for_one_id(level: str, path: str) -> None:
    found = SpiffeId.of_level(level, trust_domain=f"{CLOUD}.not", cloud_trust_domain=CLOUD)
    assert found == SpiffeId.parse(f"spiffe://{path}")
    assert found.level(cloud_trust_domain=CLOUD) == level


@pytest.mark.parametrize("level", ["", "cloud:", "a:", "a b", "a:/b"])
def test_a_level_that_stands_for_nobody_is_an_error(level: str) -> None:
    with pytest.raises(SpiffeIdError):
        SpiffeId.of_level(level, trust_domain=CLOUD, cloud_trust_domain=CLOUD)


@given(st.text(max_size=60))
def test_any_text_is_an_id_or_a_named_error(text: str) -> None:
    for candidate in (text, f"spiffe://{text}", f"spiffe://a/{text}"):
        try:
            assert str(SpiffeId.parse(candidate)) == candidate
        except SpiffeIdError as error:
            assert error.what  # noqa: PT017 -- either way is right


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe://a",
        "spiffe://a/",
        "spiffe:///agent/x",
        "SPIFFE://a/b",
        "https://a/b",
        "spiffe://A/b",
        "spiffe://a:1/b",
        "spiffe://user@a/b",
        "spiffe://a/b/",
        "spiffe://a//b",
        "spiffe://a/./b",
        "spiffe://a/../b",
        "spiffe://a/b?c",
        "spiffe://a/b#c",
        "spiffe://a/%41",
        "spiffe://a/b\n",
        "spiffe://a\n/b",
        "spiffe://a/\u00e9",
        "spiffe://a/\ud800",
        "spiffe://" + "a" * 256 + "/b",
        "spiffe://a/" + "b" * ID_BYTES_MAX,
    ],
)
def test_what_breaks_a_rule_is_refused(text: str) -> None:
    with pytest.raises(SpiffeIdError):
        SpiffeId.parse(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("spiffe://building-1.smart.local/agent/hvac-001", "hvac-001"),
        ("spiffe://building-1.smart.local/agent/gateway", "gateway"),
        ("spiffe://smart-building.cloud/operator/ann", "cloud:operator:ann"),
        ("spiffe://smart-building.cloud/gateway/building-1", "cloud:gateway:building-1"),
        ("spiffe://smart-building.cloud/agent/ingestion", "cloud:ingestion"),
    ],
)
def test_an_id_as_a_topic_level(text: str, level: str) -> None:
    assert SpiffeId.parse(text).level(cloud_trust_domain=CLOUD) == level
    assert check_level(level) == level


@given(st.from_regex(r"[a-zA-Z0-9._-]{1,10}(/[a-zA-Z0-9._-]{1,10}){0,3}", fullmatch=True))
def test_no_device_of_a_building_can_be_mistaken_for_the_cloud(path: str) -> None:
    theirs = SpiffeId("building-1.smart.local", path).level(cloud_trust_domain=CLOUD)
    for cloud_path in ("operator/ann", "agent/front", "gateway/building-1"):
        assert theirs != SpiffeId(CLOUD, cloud_path).level(cloud_trust_domain=CLOUD)
    if path.startswith("cloud/"):
        assert not theirs.startswith("cloud:")
