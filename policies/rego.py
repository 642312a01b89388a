"""Rego as everything here evaluates it: a bundle becomes an engine, a document an answer.

Facts about the engine (gordon-to-regorus 0.13.0) that shape this module and its callers:

* an `Engine` belongs to the thread that made it; another thread's call panics;
* a panic is a `BaseException`, and leaves the engine in doubt: make a new one;
* `set_input` and `add_data` crash the whole process on a lone surrogate: only JSON goes in;
* undefined comes back as the JSON string `"<undefined>"`: only an object is an answer;
* data under a package's path override its rules: `bundle.check_packages` refuses them;
* its other evaluator, `Rvm`, failed open on 13 of 20,000 fuzzed inputs: never used.
"""

import json
from typing import Any

import regorus  # type: ignore[import-untyped] # a Rust extension without stubs

from plantroom.policies import bundle
from plantroom.policies.bundle import Bundle
from plantroom.wire.errors import ConfigError

Engine = Any  # regorus.Engine: see above


def compile_rules(rules: Bundle, *, with_tests: bool = False) -> Engine:
    """Parse a bundle's modules into an engine that holds no data yet.

    Raises:
        ConfigError: naming file, line and message.
    """
    engine = regorus.Engine()
    try:
        for name, text in (*rules.modules, *(rules.tests if with_tests else ())):
            engine.add_policy(name, text)
    except RuntimeError as error:
        raise _broken(error) from error
    except BaseException as panic:  # noqa: BLE001 -- a panic has no other base; the rest goes on
        _raise_if_not_panic(panic)
        raise ConfigError(
            f"policy bundle: the engine gives up on it ({one_line(panic)})",
            remedy="take the last edit back",
        ) from None
    bundle.check_packages(rules, engine.get_packages())
    return engine


def with_data(compiled: Engine, document: str) -> Engine:
    """Return a copy of `compiled` that holds the data of a JSON document.

    Raises:
        ConfigError: when the engine does not take it.
    """
    engine = compiled.clone()
    try:
        engine.add_data_json(document)
    except RuntimeError as error:
        raise ConfigError(f"policy data: {one_line(error)}") from error
    return engine


def evaluate(engine: Engine, rule: str, document: object) -> Any:
    """Return a rule's value for an input; an undefined one is the text `<undefined>`.

    Raises:
        ConfigError: when a rule of the bundle cannot be evaluated.
        ValueError, TypeError: when the document is not JSON that the engine takes.
    """
    _set_input(engine, document)
    try:
        return json.loads(engine.eval_rule_as_json(rule))
    except RuntimeError as error:
        raise _broken(error) from error


def value_of(engine: Engine, path: str, document: object) -> list[Any]:
    """Return what there is at any path, a package's too, for an input: one value, or none.

    Raises:
        ConfigError: when it cannot be evaluated.
        ValueError, TypeError: when the document is not JSON that the engine takes.
    """
    _set_input(engine, document)
    try:
        found = json.loads(engine.eval_query_as_json(path))
    except RuntimeError as error:
        raise _broken(error) from error
    return [row["expressions"][0]["value"] for row in found.get("result", ())]


def _set_input(engine: Engine, document: object) -> None:
    text = json.dumps(document, allow_nan=False)
    try:
        engine.set_input_json(text)
    except RuntimeError as error:
        raise ValueError(f"input: {one_line(error)}") from error


def _raise_if_not_panic(fault: BaseException) -> None:
    """Let everything pass but pyo3's PanicException, which only its name tells."""
    if type(fault).__name__ != "PanicException":
        raise fault


def one_line(fault: BaseException) -> str:
    """Return an engine's message in one line, without the backtrace that it appends."""
    return " ".join(str(fault).partition("Stack backtrace")[0].split())[:500]


def _broken(fault: RuntimeError) -> ConfigError:
    """Name file, line and message of `--> mqtt/a.rego:3:1 | … | error: expecting expression`."""
    text = one_line(fault)
    place = text.partition("--> ")[2].split(" ")[0]
    message = text.rpartition("error: ")[2]
    return ConfigError(f"policy bundle: {message}", where=place, remedy="correct the rule")
