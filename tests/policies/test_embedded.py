import asyncio
import logging
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from plantroom import policies
from plantroom.policies import bundle, rego
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.errors import ConfigError
from plantroom.wire.policy import Action, Decision, Question

Ask = Callable[..., Question]
HVAC = "spiffe://building-1.smart.local/agent/hvac-001"


def test_an_answer_is_whole(point: EmbeddedPoint, ask: Ask) -> None:
    decision = point.now(ask())
    assert decision == Decision(
        allow=True,
        reason="ok",
        ttl_s=300.0,
        revision=point.revision,
        decision_id=decision.decision_id,
        source="embedded",
        rule="sensor may publish v1/{site}/telemetry/{name}",
    )


def test_waiting_gives_the_same_answer(point: EmbeddedPoint, ask: Ask) -> None:
    now, waited = point.now(ask()), asyncio.run(point.decide(ask()))
    assert replace(waited, decision_id="") == replace(now, decision_id="")


def test_every_decision_has_an_id_of_its_own(ask: Ask) -> None:
    points = [EmbeddedPoint.load(), EmbeddedPoint.load()]
    ids = [made.now(ask()).decision_id for made in points for _ in range(50)]
    assert len(set(ids)) == 100


def test_a_first_start_denies_everybody(ask: Ask) -> None:
    made = EmbeddedPoint.load()
    assert made.now(ask()).reason == "no-revocation-data"
    made.update(revocation={"generation": 1, "spiffe_ids": {}, "serials": {}})
    assert made.now(ask()).reason == "unregistered"


def test_a_change_takes_effect_at_once_and_is_told(
    point: EmbeddedPoint, world: dict[str, Any], ask: Ask
) -> None:
    told: list[int] = []
    point.on_change(lambda: told.append(point.generation))
    before = point.generation
    point.update(revocation={"generation": 2, "spiffe_ids": {HVAC: True}, "serials": {}})
    assert point.now(ask()).reason == "revoked"
    point.update(**world)
    assert point.now(ask()).allow
    assert told == [before + 1, before + 2]


def test_the_same_data_again_are_no_change(point: EmbeddedPoint, world: dict[str, Any]) -> None:
    before = point.generation
    point.update(**world)
    assert point.generation == before


def test_what_is_not_given_stays(point: EmbeddedPoint, ask: Ask) -> None:
    point.update(registry={"devices": {}})
    assert point.now(ask()).reason == "unregistered"
    point.update(revocation={"generation": 3, "spiffe_ids": {}, "serials": {}})
    assert point.now(ask()).reason == "unregistered"


def test_the_callers_own_table_may_change_afterwards(
    point: EmbeddedPoint, world: dict[str, Any], ask: Ask
) -> None:
    world["registry"]["devices"].clear()
    assert point.now(ask()).allow
    point.update(revocation={"generation": 4, "spiffe_ids": {}, "serials": {}})
    assert point.now(ask()).allow


@pytest.mark.parametrize(
    "bad",
    [
        {"registry": {}},
        {"registry": {"devices": []}},
        {"registry": {"devices": {HVAC: "active"}}},
        {"registry": {"devices": {7: {}}}},
        {"registry": {"devices": {HVAC: {"role": b"sensor"}}}},
        {"registry": {"devices": {HVAC: {"role": "\ud800"}}}},
        {"registry": {"devices": {HVAC: {"x": float("nan")}}}},
        {"revocation": {}},
        {"revocation": {"generation": True, "spiffe_ids": {}, "serials": {}}},
        {"revocation": {"generation": 1, "spiffe_ids": [HVAC], "serials": {}}},
        {"revocation": {"generation": 1, "spiffe_ids": {}}},
    ],
)
def test_data_of_another_form_are_refused_and_the_old_ones_stay(
    point: EmbeddedPoint, ask: Ask, bad: dict[str, Any]
) -> None:
    before = point.generation
    with pytest.raises(ConfigError, match="policy data"):
        point.update(**bad)
    assert point.generation == before
    assert point.now(ask()).allow


def _edited(folder: Path, name: str, change: Callable[[str], str]) -> Path:
    ignore = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(policies.bundle_dir(), folder / "b", ignore=ignore)
    path = folder / "b" / name
    path.write_text(change(path.read_text()))
    return folder / "b"


def test_an_edited_bundle_takes_effect_at_once(
    point: EmbeddedPoint, ask: Ask, tmp_path: Path
) -> None:
    folder = _edited(tmp_path, "acl/data.json", lambda s: s.replace("telemetry/{name}", "t/{name}"))
    before, revision = point.generation, point.revision
    point.replace(bundle.load(folder))
    decision = point.now(ask())
    assert (decision.allow, decision.reason) == (False, "topic-not-granted")
    assert decision.revision == point.revision != revision
    assert point.generation == before + 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text.replace("allow if {", "allow if ("), "mqtt/authz.rego:"),
        (lambda text: text.replace("decision := {", "verdict := {"), "policy bundle"),
        (lambda text: text.replace('"rule": rule', '"why": rule'), "agreed form"),
        (lambda text: text.replace("allow := false", "allow := true"), "agreed form"),
        (lambda text: text + "\ndecision := 7\n", "policy bundle"),
    ],
)
def test_a_broken_edit_is_refused_and_the_old_bundle_goes_on(
    point: EmbeddedPoint, ask: Ask, tmp_path: Path, change: Callable[[str], str], text: str
) -> None:
    folder = _edited(tmp_path, "mqtt/authz.rego", change)
    before, revision = point.generation, point.revision
    with pytest.raises(ConfigError, match=text):
        point.replace(bundle.load(folder))
    assert (point.generation, point.revision) == (before, revision)
    assert point.now(ask()).allow


def test_the_clouds_trust_domain_is_a_setting(world: dict[str, Any], ask: Ask) -> None:
    made = EmbeddedPoint.load(cloud_trust_domain="example.cloud")
    inspector = "spiffe://example.cloud/inspector/eve"
    entry = world["registry"]["devices"]["spiffe://smart-building.cloud/inspector/eve"]
    world["registry"]["devices"][inspector] = entry
    made.update(**world)
    question = ask(spiffe_id=inspector, action="subscribe", topic="#")
    assert made.now(question).allow
    stranger = replace(question, spiffe_id="spiffe://smart-building.cloud/inspector/eve")
    assert not made.now(stranger).allow


def test_another_thread_is_denied_without_touching_the_engine(
    point: EmbeddedPoint, ask: Ask
) -> None:
    answers: list[Decision] = []
    thread = threading.Thread(target=lambda: answers.append(point.now(ask())))
    thread.start()
    thread.join(10)
    assert [(a.allow, a.reason, a.ttl_s) for a in answers] == [(False, "wrong-thread", 0.0)]
    assert point.now(ask()).allow


class _Panic(BaseException):
    """As pyo3's PanicException: not an Exception."""


@pytest.mark.parametrize("fault", [_Panic, RuntimeError, MemoryError, RecursionError])
def test_a_fault_of_the_engine_denies_and_the_next_question_is_answered(
    point: EmbeddedPoint,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: type[BaseException],
) -> None:
    def broken(*_: object) -> object:
        raise fault("the engine broke")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(rego, "evaluate", broken)
        decision = point.now(ask())
    assert (decision.allow, decision.reason, decision.ttl_s) == (False, "engine-fault", 0.0)
    assert decision.decision_id in caplog.text
    assert "the engine broke" in caplog.text
    assert point.now(ask()).allow


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_stops_the_process_is_not_held_up(
    point: EmbeddedPoint, ask: Ask, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def stopped(*_: object) -> object:
        raise stop

    monkeypatch.setattr(rego, "evaluate", stopped)
    with pytest.raises(stop):
        point.now(ask())


def test_a_question_that_is_not_json_is_denied(point: EmbeddedPoint, ask: Ask) -> None:
    for topic in ("\ud800", b"v1", float("nan"), {1}):
        decision = point.now(ask(topic=topic))
        assert (decision.allow, decision.ttl_s) == (False, 0.0)


# --- hostile input -----------------------------------------------------------

ROLES = {
    "spiffe://building-1.smart.local/agent/hvac-001": "hvac-001",
    "spiffe://building-1.smart.local/agent/gateway": "gateway",
    "spiffe://smart-building.cloud/gateway/building-1": "building-1",
    "spiffe://smart-building.cloud/agent/ingestion": "ingestion",
    "spiffe://smart-building.cloud/operator/ann": "ann",
    "spiffe://smart-building.cloud/inspector/eve": "eve",
}
LEVELS = [
    *("v1", "building-1", "building-2", "cloud", "telemetry", "presence", "twin", "call", "reply"),
    *("alarm", "uplink", "receipt", "hvac-001", "hvac-002", "gateway", "reported", "desired"),
    *("live", "+", "#", "$SYS", "$share", "g", "{self}", "{cloud}", "cloud:operator:ann", ".."),
    *("%2B", "\u0000", "\u00e9", "\ud800", "a+", "#b", "", "x" * 1100),
]
JUNK: list[Any] = [None, -1, 3, True, 1e308, "", [], {}, ["publish"], {"a": 1}, "x", "\udfff"]


def _hostile(random_: random.Random) -> Question:
    """A question that may be nonsense in any field; what would be fine is left to `_fine`."""
    spiffe_id = random_.choice([*ROLES, "spiffe://building-1.smart.local/agent/ghost", "x"])
    fields: dict[str, Any] = {
        "spiffe_id": spiffe_id,
        "cert_serial": "0a",
        "client_id": ROLES.get(spiffe_id, "x"),
        "action": random_.choice(get_args(Action)),
        "topic": "/".join(random_.choices(LEVELS, k=random_.randint(0, 7))),
        "qos": random_.choice([0, 1, 2]),
        "retain": random_.choice([False, True]),
    }
    for _ in range(random_.choice([0, 1, 1, 2])):
        fields[random_.choice(list(fields))] = random_.choice(JUNK)
    return Question(**fields)


def _judge(question: Question) -> bool:
    """Say by a rule of thumb of its own whether a question may possibly be allowed."""
    texts = (question.spiffe_id, question.cert_serial, question.client_id, question.topic)
    if not all(isinstance(text, str) for text in texts) or question.spiffe_id not in ROLES:
        return False
    if type(question.qos) is not int or not 0 <= question.qos <= 2:
        return False
    if type(question.retain) is not bool or any("\ud800" <= c <= "\udfff" for c in "".join(texts)):
        return False
    name, levels = ROLES[question.spiffe_id], question.topic.split("/")
    match question.action:
        case "connect":
            return bool(question.client_id) and (
                name in {"ann", "eve", "ingestion"} or question.client_id == name
            )
        case "subscribe":
            return len(question.topic) <= 1024
        case "publish" | "call":
            foreign = name in {"hvac-001", "gateway", "building-1"} and levels[1] != "building-1"
            wild = {"+", "#"} & set(question.topic) or question.topic.startswith("$")
            return levels[0] == "v1" and not wild and not foreign and name != "eve"
    return False


def test_hostile_questions_never_allow_and_never_raise(point: EmbeddedPoint) -> None:
    random_ = random.Random(20261122)  # noqa: S311 - a seed, so that a failure replays
    allowed = 0
    for _ in range(4000):
        question = _hostile(random_)
        decision = point.now(question)
        allowed += decision.allow
        assert not decision.allow or _judge(question), question
    assert allowed > 50, "nothing allowed: the fuzz asks nothing worth refusing"


def test_an_allowed_question_with_one_field_of_another_type_is_denied(
    point: EmbeddedPoint, ask: Ask
) -> None:
    whole = {name: getattr(ask(), name) for name in Question.__dataclass_fields__}
    for name, value in whole.items():
        for junk in JUNK:
            if type(junk) is not type(value):
                assert not point.now(ask(**{name: junk})).allow, (name, junk)
