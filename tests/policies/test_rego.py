import json
from typing import Any

import pytest

from plantroom.policies import rego
from plantroom.policies.bundle import Bundle
from plantroom.wire.errors import ConfigError


def rules(text: str) -> Bundle:
    return Bundle(revision="1", roots=("p",), modules=(("p.rego", text),), tests=(), data={})


def value(text: str, document: dict[str, Any], data: str = "{}") -> Any:
    engine = rego.with_data(rego.compile_rules(rules(text)), data)
    return rego.evaluate(engine, "data.p.a", document)


def test_a_rule_gives_its_value() -> None:
    assert value("package p\n\na := input.x + data.y\n", {"x": 1}, '{"y": 2}') == 3


def test_undefined_is_not_a_document() -> None:
    assert value("package p\n\na if input.x\n", {}) == "<undefined>"


def test_a_syntax_error_names_file_line_and_message() -> None:
    with pytest.raises(ConfigError) as caught:
        rego.compile_rules(rules("package p\n\na := \n"))
    assert caught.value.where.startswith("p.rego:4:")
    assert "expecting expression" in caught.value.what
    assert "\n" not in str(caught.value)


def test_an_error_of_evaluation_names_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        value("package p\n\na := 1\n\na := 2\n", {})
    assert caught.value.where.startswith("p.rego:")


def test_the_older_form_of_rego_is_refused() -> None:
    with pytest.raises(ConfigError):
        rego.compile_rules(rules("package p\n\na { true }\n"))


@pytest.mark.parametrize("bad", ["\ud800", float("nan"), float("inf"), b"x", {1, 2}])
def test_input_that_is_not_json_is_an_error(bad: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        value("package p\n\na := input.x\n", {"x": bad})


def test_data_that_the_engine_does_not_take_is_an_error() -> None:
    with pytest.raises(ConfigError, match="policy data"):
        rego.with_data(rego.compile_rules(rules("package p\n\na := 1\n")), "[1]")
    with pytest.raises(ConfigError, match="policy data"):
        rego.with_data(rego.compile_rules(rules("package p\n\na := 1\n")), json.dumps("\ud800"))


def test_a_copy_with_data_leaves_the_compiled_rules_as_they_are() -> None:
    compiled = rego.compile_rules(rules("package p\n\na := data.x\n"))
    one, two = rego.with_data(compiled, '{"x": 1}'), rego.with_data(compiled, '{"x": 2}')
    assert rego.evaluate(one, "data.p.a", {}) == 1
    assert rego.evaluate(two, "data.p.a", {}) == 2


def test_an_engine_that_panics_on_a_bundle_is_an_error_of_the_bundle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class PanicException(BaseException):
        pass

    class Broken:
        def __init__(self, fault: type[BaseException]) -> None:
            self._fault = fault

        def add_policy(self, _name: str, _text: str) -> None:
            raise self._fault("index out of bounds")

    monkeypatch.setattr("regorus.Engine", lambda: Broken(PanicException))
    with pytest.raises(ConfigError, match="gives up on it"):
        rego.compile_rules(rules("package p\n"))
    monkeypatch.setattr("regorus.Engine", lambda: Broken(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        rego.compile_rules(rules("package p\n"))
