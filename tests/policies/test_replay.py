import dataclasses
from collections.abc import Callable
from typing import Any

from plantroom import policies
from plantroom.policies import bundle, replay
from plantroom.policies.bundle import Bundle
from plantroom.wire.policy import Question

Ask = Callable[..., Question]


def edited(old: str, new: str) -> Bundle:
    files = bundle.read(policies.bundle_dir())
    text = files["acl/data.json"].replace(old, new)
    assert text != files["acl/data.json"]
    return bundle.parse(files | {"acl/data.json": text}, policies.bundle_dir())


def test_only_what_flips_is_listed_with_both_rules(world: dict[str, Any], ask: Ask) -> None:
    shipped = bundle.load(policies.bundle_dir())
    new = edited('v1/{site}/telemetry/{name}"', 'v1/{site}/readings/{name}"')
    asked = [ask(), ask(), ask(topic="v1/building-1/readings/hvac-001"), ask(topic="v1/x")]
    documents = [dataclasses.asdict(question) for question in asked] + [{"spiffe_id": 7}, {}]
    found = replay.compare(shipped, new, documents, **world)
    assert (found.questions, found.recorded) == (3, 4)
    assert [(flip.question.topic, flip.new.allow, flip.times) for flip in found.flips] == [
        ("v1/building-1/telemetry/hvac-001", False, 2),
        ("v1/building-1/readings/hvac-001", True, 1),
    ]
    assert found.flips[0].old.rule == "sensor may publish v1/{site}/telemetry/{name}"
    assert found.flips[0].new.rule == "mqtt.authz: topic-not-granted"


def test_the_same_bundle_flips_nothing(world: dict[str, Any], ask: Ask) -> None:
    shipped = bundle.load(policies.bundle_dir())
    found = replay.compare(shipped, shipped, [dataclasses.asdict(ask())], **world)
    assert (found.questions, found.flips) == (1, ())


def test_what_is_no_question_is_none(ask: Ask) -> None:
    whole = dataclasses.asdict(ask())
    assert replay.question_of(whole) == ask()
    assert replay.question_of(whole | {"qos": True}) is None
    assert replay.question_of({}) is None
