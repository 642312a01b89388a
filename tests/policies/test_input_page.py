"""The page of the input document says what the code and the policy say."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plantroom import policies
from plantroom.policies import answer, bundle, remote
from plantroom.policies.embedded import EmbeddedPoint
from plantroom.wire.policy import Question

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "policy-input.md").read_text("utf-8")
KINDS = {"text": str, "number": int, "truth": bool}


def rows(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading: first cell (without quotes) to the rest."""
    part = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", part, re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in cells}


def test_every_field_of_the_question_is_there_with_its_type(
    point: EmbeddedPoint, ask: Callable[..., Question]
) -> None:
    shown = rows("The input document")
    assert list(shown) == list(answer.document_of(ask()))
    for name, (kind, _) in shown.items():
        assert type(getattr(ask(), name)) is KINDS[kind], name
        assert point.now(ask(**{name: None})).reason == "malformed"


def test_every_part_of_the_answer_is_there(
    point: EmbeddedPoint, ask: Callable[..., Question]
) -> None:
    decision = point.now(ask())
    for name, (kind, _) in rows("The answer").items():
        value: Any = getattr(decision, name)
        assert isinstance(value, (int, float) if kind == "number" else KINDS[kind]), name


def test_the_reasons_are_those_of_the_policy_in_its_order() -> None:
    rego = dict(bundle.load(policies.bundle_dir()).modules)["mqtt/authz.rego"]
    chain = rego.split("reason := ")[1].split("\n# ")[0]
    said = re.findall(r'(?:^|:= )"([a-z-]+)"', chain)
    assert list(rows("Reasons of the shipped policy")) == said


def test_the_points_own_reasons_are_there() -> None:
    shown = set(rows("Reasons of the decision points"))
    texts = "".join(
        (ROOT / name).read_text("utf-8")
        for name in ("policies/embedded.py", "policies/remote.py", "broker/guard.py")
    )
    own = set(re.findall(r'"(policy-[a-z-]+|engine-fault|wrong-thread|closed)"', texts))
    own -= {"no-policy"}
    assert {word for _, word in remote._FAULTS} <= shown
    assert own | {"undefined-answer", "malformed-answer"} == shown


def test_the_documents_beside_it_are_those_that_the_engine_gets(
    point: EmbeddedPoint, world: dict[str, Any]
) -> None:
    shown = set(rows("What policy knows besides"))
    assert {name.split(".")[1] for name in shown} == {"acl", "system", *world}
    assert point.revision
