"""The bundle's own tests, run by the engine that decides: what `plantroom policy test` does."""

import json
import re
from dataclasses import dataclass
from typing import Any

from plantroom.policies import rego
from plantroom.policies.bundle import Bundle

_PACKAGE = re.compile(r"^package ([\w.]+)", re.MULTILINE)
_TEST = re.compile(r"^(test_\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One `test_…` rule: passed only if it is exactly `true`; `value` is what it was instead."""

    package: str
    name: str
    passed: bool
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every test's outcome, and the lines of the bundle's rules that no test evaluated."""

    outcomes: tuple[Outcome, ...]
    uncovered: tuple[tuple[str, int], ...]

    @property
    def passed(self) -> bool:
        """Whether there were tests and all passed."""
        return bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)


def run(rules: Bundle) -> Report:
    """Run every rule whose name begins with `test_` in the bundle's `*_test.rego` files.

    Raises:
        ConfigError: when the bundle or its tests do not compile.
    """
    compiled = rego.compile_rules(rules, with_tests=True)
    engine = rego.with_data(compiled, json.dumps(dict(rules.data)))
    engine.set_enable_coverage(True)
    outcomes = tuple(
        _outcome(engine, package, name)
        for _, text in rules.tests
        for package in _PACKAGE.findall(text)
        for name in dict.fromkeys(_TEST.findall(text))
    )
    return Report(outcomes=outcomes, uncovered=_uncovered(engine, rules))


def _outcome(engine: rego.Engine, package: str, name: str) -> Outcome:
    value = rego.evaluate(engine, f"data.{package}.{name}", {})
    passed = value is True
    return Outcome(package=package, name=name, passed=passed, value="" if passed else str(value))


def _uncovered(engine: rego.Engine, rules: Bundle) -> tuple[tuple[str, int], ...]:
    report: dict[str, Any] = json.loads(engine.get_coverage_report_as_json())
    own = {name for name, _ in rules.modules}
    return tuple(
        (file["path"], line)
        for file in report["files"]
        if file["path"] in own
        for line in file["not_covered"]
    )
