import json
import subprocess

import pytest

from plantroom import policies
from plantroom.policies import bundle, selftest
from plantroom.policies.bundle import Bundle
from tests.fakes import opa


def test_the_shipped_tests_pass_and_reach_every_rule() -> None:
    report = selftest.run(bundle.load(policies.bundle_dir()))
    assert [outcome for outcome in report.outcomes if not outcome.passed] == []
    assert report.passed
    assert len(report.outcomes) >= 40
    assert report.uncovered == ()


def _run(text: str) -> selftest.Report:
    rules = Bundle(
        revision="1",
        roots=("p", "p_test"),
        modules=(("p.rego", "package p\n\na := 1 if {\n\tinput.x\n\tinput.y\n}\n"),),
        tests=(("p_test.rego", "package p_test\n\n" + text),),
        data={},
    )
    return selftest.run(rules)


def test_a_failing_test_is_named_with_its_value() -> None:
    report = _run("test_one if false\n\ntest_two := 7\n\ntest_three if true\n")
    assert not report.passed
    assert {(o.name, o.passed, o.value) for o in report.outcomes} == {
        ("test_one", False, "<undefined>"),
        ("test_two", False, "7"),
        ("test_three", True, ""),
    }


def test_no_tests_is_not_a_pass() -> None:
    assert not _run("a := 1\n").passed


def test_a_line_that_no_test_reaches_is_named() -> None:
    report = _run('test_a if not data.p.a with input as {"x": false}\n')
    assert report.passed
    assert ("p.rego", 5) in report.uncovered


def _opa(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [opa.need(), *arguments, str(policies.bundle_dir())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.real
@pytest.mark.timeout(900)
def test_opa_runs_the_same_tests_with_every_rule_covered() -> None:
    done = _opa("test", "--bundle", "--format=json")
    assert done.returncode == 0, done.stdout
    ours = selftest.run(bundle.load(policies.bundle_dir()))
    assert {case["name"] for case in json.loads(done.stdout)} == {o.name for o in ours.outcomes}
    covered = _opa("test", "--bundle", "--coverage", "--threshold=100")
    assert covered.returncode == 0, covered.stdout[-2000:]


@pytest.mark.real
@pytest.mark.timeout(900)
def test_opa_finds_nothing_to_complain_about() -> None:
    checked = _opa("check", "--strict", "--bundle")
    assert (checked.returncode, checked.stderr) == (0, "")
    formatted = _opa("fmt", "--list", "--fail")
    assert (formatted.returncode, formatted.stdout) == (0, "")


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize("words", [("check", "--strict"), ("fmt", "--list", "--fail")])
def test_nor_about_the_servers_own_policy(words: tuple[str, ...]) -> None:
    command = [opa.need(), *words, str(opa.ROOT / "deploy" / "opa-authz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
