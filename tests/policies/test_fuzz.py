"""The embedded engine beside OPA itself, on inputs that mean harm: no difference, nothing open."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from plantroom import policies
from plantroom.policies import bundle, rego
from tests.fakes import opa
from tests.policies import hostile

CASES = int(os.environ.get("PLANTROOM_POLICY_CASES", "20000"))
SEED = int(os.environ.get("PLANTROOM_POLICY_SEED", "20261122"))
PART = 5000
BATCH = "[d | some one in input; d := data.mqtt.authz.decision with input as one]"
ASKING = "[d | some one in input; d := data.mqtt.asking.allow with input as one]"
SYSTEM = {"revision": "fuzz", "cloud_trust_domain": "smart-building.cloud"}


def embedded(world: dict[str, Any], rule: str, inputs: list[Any]) -> list[Any]:
    rules = bundle.load(policies.bundle_dir())
    data = {**rules.data, **world, "system": SYSTEM}
    engine = rego.with_data(rego.compile_rules(rules), json.dumps(data))
    return [rego.evaluate(engine, rule, one) for one in inputs]


def both(
    world: dict[str, Any], inputs: list[Any], folder: Path, rule: str, batch: str
) -> list[tuple[Any, Any, Any]]:
    command = opa.need()
    outside = folder / "outside"
    outside.mkdir()
    (outside / "data.json").write_text(json.dumps(world | {"system": SYSTEM}))
    roots = {"roots": ["registry", "revocation", "system"]}
    (outside / ".manifest").write_text(json.dumps(roots))
    shipped = opa.bundle_copy(folder)
    theirs: list[Any] = []
    for start in range(0, len(inputs), PART):
        part = inputs[start : start + PART]
        theirs += opa.evaluate(command, batch, part, shipped, outside)
    ours = embedded(world, rule, inputs)
    assert len(ours) == len(theirs) == len(inputs)
    return list(zip(inputs, ours, theirs, strict=True))


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_embedded_engine_and_opa_agree_on_every_hostile_input(
    world: dict[str, Any], tmp_path: Path
) -> None:
    inputs = list(hostile.documents(CASES, seed=SEED))
    found = both(world, inputs, tmp_path, "data.mqtt.authz.decision", BATCH)
    opened = [row for row in found if row[1]["allow"] is not False and row[2]["allow"] is not True]
    assert opened == []
    different = [row for row in found if row[1] != row[2]]
    assert different == []
    allowed = sum(ours["allow"] for _, ours, _ in found)
    reasons = {ours["reason"] for _, ours, _ in found}
    assert allowed > CASES / 100, "nothing allowed: nothing worth refusing was asked"
    assert len(reasons) >= 9, reasons


@pytest.mark.real
@pytest.mark.timeout(900)
def test_they_agree_on_who_may_ask_about_whom(world: dict[str, Any], tmp_path: Path) -> None:
    count = CASES // 10
    askers = [{"spiffe_id": who, "cert_serial": "0A"} for who in (*hostile.IDS, 7, None)]
    inputs = [
        {"asker": askers[number % len(askers)], "question": one}
        for number, one in enumerate(hostile.documents(count, seed=SEED + 1))
    ]
    found = both(world, inputs, tmp_path, "data.mqtt.asking.allow", ASKING)
    assert [row for row in found if row[1] is not row[2]] == []
    assert any(ours is True for _, ours, _ in found)


def test_hostile_documents_are_what_they_were_with_the_same_seed() -> None:
    first, second = (list(hostile.documents(50, seed=7)) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    assert first != list(hostile.documents(50, seed=8))
