"""The topic algebra of mqtt/topics.rego against what MQTT says, by brute force."""

import itertools
import json

import pytest

from plantroom import policies
from plantroom.policies import bundle, rego
from plantroom.wire.spiffe import SpiffeId

CLOUD = "smart-building.cloud"
PROBE = """package probe

covering := [i | some i, pair in input.pairs; data.mqtt.topics.covers(pair[0], pair[1])]

filters := [i | some i, text in input.texts; data.mqtt.topics.valid_filter(text)]

names := [i | some i, text in input.texts; data.mqtt.topics.valid_name(text)]

parsed := {id: data.mqtt.identity.parse(id) | some id in input.ids}
"""


@pytest.fixture(scope="module")
def engine() -> rego.Engine:
    rules = bundle.load(policies.bundle_dir())
    compiled = rego.compile_rules(rules)
    compiled.add_policy("probe.rego", PROBE)
    acl = {"names_reserved": [], "cloud_trust_domain": CLOUD}
    return rego.with_data(compiled, json.dumps({"acl": acl}))


def matches(filter_: str, topic: str) -> bool:
    """MQTT 5, section 4.7, word by word."""
    wanted, levels = filter_.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(levels) or level not in {"+", levels[i]}:
            return False
    return len(wanted) == len(levels)


def is_filter(text: str) -> bool:
    levels = text.split("/")
    return text != "" and all(
        level in {"", "+"} or (level == "#" and i == len(levels) - 1) or not set(level) & {"+", "#"}
        for i, level in enumerate(levels)
    )


def texts(alphabet: list[str], longest: int) -> list[str]:
    return [
        "/".join(levels)
        for length in range(1, longest + 1)
        for levels in itertools.product(alphabet, repeat=length)
    ]


FILTERS = [text for text in texts(["a", "b", "", "+", "#", "$x"], 3) if is_filter(text)]
TOPICS = [text for text in texts(["a", "b", "c", "", "$x"], 4) if text]


def test_a_grant_covers_exactly_the_topics_that_it_matches(engine: rego.Engine) -> None:
    pairs = [(f, t) for f in FILTERS for t in TOPICS]
    covering = set(rego.evaluate(engine, "data.probe.covering", {"pairs": pairs}))
    wrong = [pair for i, pair in enumerate(pairs) if (i in covering) != matches(*pair)]
    assert len(pairs) >= 100_000
    assert wrong == []


def test_a_grant_covers_a_filter_only_if_it_matches_all_that_the_filter_matches(
    engine: rego.Engine,
) -> None:
    reach = {f: frozenset(t for t in TOPICS if matches(f, t)) for f in FILTERS}
    pairs = list(itertools.product(FILTERS, repeat=2))
    covering = set(rego.evaluate(engine, "data.probe.covering", {"pairs": pairs}))
    unsound = [p for i, p in enumerate(pairs) if i in covering and not reach[p[1]] <= reach[p[0]]]
    missed = [
        p
        for i, p in enumerate(pairs)
        if i not in covering and reach[p[1]] and reach[p[1]] <= reach[p[0]]
    ]
    assert unsound == []
    # No topic is empty, so these say the same in other words: refused, which is safe.
    assert set(missed) == {("+/#", "#"), ("/+/#", "/#"), ("+/+/#", "/#")}


def test_filters_and_names_are_told_as_the_standard_tells_them(engine: rego.Engine) -> None:
    asked = texts(["a", "", "+", "#", "a+", "#a", "$x"], 3)
    filters = set(rego.evaluate(engine, "data.probe.filters", {"texts": asked}))
    names = set(rego.evaluate(engine, "data.probe.names", {"texts": asked}))
    for i, text in enumerate(asked):
        assert (i in filters) == is_filter(text), text
        plain = text and not set(text) & {"+", "#"} and not text.startswith("$")
        assert (i in names) == bool(plain), text


def test_the_level_of_an_identity_is_the_one_that_the_wire_gives_it(engine: rego.Engine) -> None:
    ids = [
        f"spiffe://{domain}/{path}"
        for domain in ("building-1.smart.local", "b-2.x.y", CLOUD)
        for path in ("agent/hvac-001", "agent/ota", "gateway/building-1", "operator/ann")
    ]
    parsed = rego.evaluate(engine, "data.probe.parsed", {"ids": ids})
    assert len(parsed) == 8  # a building has agents only
    for id_, found in parsed.items():
        spiffe_id = SpiffeId.parse(id_)
        assert found["level"] == spiffe_id.level(cloud_trust_domain=CLOUD)
        assert found["name"] == spiffe_id.name
