import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from plantroom import policies
from plantroom.policies import bundle, rego
from plantroom.wire import topics
from plantroom.wire.errors import ConfigError

RULE = "package mqtt.authz\n\ndecision := {}\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def minimal(**more: str) -> dict[str, str]:
    manifest = json.dumps({"revision": "7", "roots": ["mqtt", "acl"]})
    return {".manifest": manifest, "mqtt/authz.rego": RULE, "acl/data.json": '{"a": 1}'} | more


def test_the_shipped_bundle_loads_with_its_tests() -> None:
    loaded = bundle.load(policies.bundle_dir())
    assert {name for name, _ in loaded.modules} == {
        "mqtt/asking.rego",
        "mqtt/authz.rego",
        "mqtt/capabilities.rego",
        "mqtt/identity.rego",
        "mqtt/topics.rego",
    }
    assert len(loaded.tests) == len(loaded.modules)
    assert loaded.roots == ("mqtt", "acl")


def test_any_edit_of_a_rule_or_of_data_is_a_new_revision(tmp_path: Path) -> None:
    first = bundle.load(write(tmp_path, minimal())).revision
    again = bundle.load(tmp_path).revision
    rule = bundle.load(write(tmp_path, {"mqtt/authz.rego": RULE + "\n"})).revision
    data = bundle.load(write(tmp_path, {"acl/data.json": '{"a": 2}'})).revision
    tests = bundle.load(write(tmp_path, {"mqtt/a_test.rego": "package mqtt.a_test\n"})).revision
    assert first.startswith("7+")
    assert first == again
    assert len({first, rule, data}) == 3
    assert data == tests


def test_a_bundle_can_live_anywhere(tmp_path: Path) -> None:
    shutil.copytree(policies.bundle_dir(), tmp_path / "b", ignore=shutil.ignore_patterns("*.py"))
    assert bundle.load(tmp_path / "b") == bundle.load(policies.bundle_dir())


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({".manifest": "{"}, "is not JSON"),
        ({".manifest": "[]"}, "is not a JSON object"),
        ({".manifest": "{}"}, "`roots`"),
        ({".manifest": '{"roots": []}'}, "`roots`"),
        ({".manifest": '{"roots": ["mqtt"], "roots": ["mqtt"]}'}, "twice"),
        ({".manifest": '{"roots": ["mqtt", "acl", "registry"]}'}, "may not hold"),
        ({".manifest": '{"roots": ["mqtt", "acl", "system/x"]}'}, "may not hold"),
        ({"acl/data.json": "{"}, "is not JSON"),
        ({"acl/data.json": "[" * 100_000}, "is not JSON"),
        ({"acl/data.json": "1"}, "is not a JSON object"),
        ({"data.json": '{"registry": {"devices": {}}}'}, "outside the manifest's roots"),
        ({"revocation/data.json": "{}"}, "outside the manifest's roots"),
        ({"data.json": '{"acl": {"a": 3}}'}, "already"),
        ({"data.json": '{"acl": 3}'}, "already"),
        ({"acl/data.json": " " * (bundle.FILE_BYTES_MAX + 1)}, "larger than"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, files: dict[str, str], text: str) -> None:
    write(tmp_path, minimal(**files))
    with pytest.raises(ConfigError, match=text) as caught:
        bundle.load(tmp_path)
    assert caught.value.where
    assert caught.value.remedy


def test_a_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        bundle.load(tmp_path)
    write(tmp_path, {".manifest": '{"roots": ["mqtt"]}'})
    with pytest.raises(ConfigError, match=r"no \.rego file"):
        bundle.load(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"mqtt/authz/data.json": '{"allow": true}'},
        {"mqtt/data.json": '{"authz": {"decision": {"allow": true}}}'},
        {"data.json": '{"mqtt": {"authz": {}}}'},
        {"mqtt/data.json": '{"authz": 1}'},
    ],
)
def test_data_under_a_packages_path_are_refused(tmp_path: Path, files: dict[str, str]) -> None:
    loaded = bundle.load(write(tmp_path, minimal(**files)))
    with pytest.raises(ConfigError, match="would override its rules"):
        rego.compile_rules(loaded)


def test_data_beside_a_package_are_welcome(tmp_path: Path) -> None:
    loaded = bundle.load(write(tmp_path, minimal(**{"mqtt/data.json": '{"limits": {"x": 1}}'})))
    rego.compile_rules(loaded)


@pytest.mark.parametrize("package", ["registry.devices", "revocation", "system", "elsewhere"])
def test_a_package_outside_the_roots_is_refused(tmp_path: Path, package: str) -> None:
    loaded = bundle.load(write(tmp_path, minimal(**{"x.rego": f"package {package}\n\na := 1\n"})))
    with pytest.raises(ConfigError, match="outside the manifest's roots"):
        rego.compile_rules(loaded)


def _grants(action: str) -> list[tuple[str, dict[str, Any]]]:
    roles = bundle.load(policies.bundle_dir()).data["acl"]["roles"]
    return [(role, grant) for role, rights in roles.items() for grant in rights[action]]


def _concrete(template: str) -> str:
    for part, name in {
        "{site}": "building-1",
        "{name}": "hvac-001",
        "{self}": "hvac-001",
        "{building}": "hvac-001",
        "{domain}": "building-1.smart.local",
        "{cloud}": "cloud:ota",
        "+": "x",
    }.items():
        template = template.replace(part, name)
    return template


@pytest.mark.parametrize(("role", "grant"), _grants("publish"))
def test_every_publish_grant_is_a_topic_of_ours_and_retained_as_there(
    role: str, grant: dict[str, Any]
) -> None:
    pattern = topics.parse(_concrete(grant["topic"])).pattern
    family = next(f for f in topics.FAMILIES if "/".join((f.name, *f.levels)) == pattern)
    assert grant.get("retain", False) == family.retained, role


@pytest.mark.parametrize(("role", "grant"), _grants("subscribe"))
def test_every_subscribe_grant_is_a_topic_of_ours_or_a_subtree(
    role: str, grant: dict[str, Any]
) -> None:
    assert grant.keys() == {"topic"}, role
    if not grant["topic"].endswith("#"):
        asked = grant["topic"].split("/")[2:]
        assert any(_may_match(asked, (f.name, *f.levels)) for f in topics.FAMILIES)


def _may_match(asked: list[str], family: tuple[str, ...]) -> bool:
    return len(asked) == len(family) and all(
        level == "+" or wanted.startswith("{") or level == wanted
        for level, wanted in zip(asked, family, strict=True)
    )


def test_only_callers_themselves_and_who_may_see_everything_hear_replies() -> None:
    for role, grant in _grants("subscribe"):
        levels = grant["topic"].split("/")
        if len(levels) > 3 and levels[2] == "reply":
            assert levels[3] in {"{self}", "{building}"}, role
            assert levels[3] == "{self}" or role == "uplink"


def test_what_may_be_called_names_roles_that_there_are() -> None:
    acl = bundle.load(policies.bundle_dir()).data["acl"]
    for table in acl["capabilities"].values():
        for callers in table.values():
            assert set(callers) <= acl["roles"].keys()
