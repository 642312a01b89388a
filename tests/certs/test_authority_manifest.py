"""The manifest: there and back, in its first form too, and never half."""

import json
from pathlib import Path

import pytest

from plantroom.certs import authority_manifest
from plantroom.certs.authority_manifest import Manifest, RootRecord
from plantroom.certs.entry import SVID_TTL_S_MAX
from plantroom.wire.errors import IdentityError, StorageCorruptError

NOW_S = 1_800_000_000
ONE = RootRecord(name="root-1", prepared_s=1, activated_s=2, until_s=3)
TWO = RootRecord(name="root-2", prepared_s=4, hsm={"module": "m", "token": "t", "label": "l"})


def manifest(*roots: RootRecord, active: str = "root-1") -> Manifest:
    return Manifest(trust_domain="a.b", active=active, sequence=7, roots=roots)


def test_it_goes_there_and_back(tmp_path: Path) -> None:
    authority_manifest.write(tmp_path, manifest(ONE, TWO))
    assert authority_manifest.read(tmp_path, now_s=NOW_S) == manifest(ONE, TWO)
    assert authority_manifest.of_domain(tmp_path, "a.b", now_s=NOW_S).sequence == 7


def test_a_root_is_prepared_then_active_then_old() -> None:
    found = manifest(ONE, TWO)
    assert [found.state(root.name) for root in found.roots] == ["active", "prepared"]
    assert manifest(ONE, TWO, active="root-2").in_state("old") == ONE
    assert found.in_state("old") is None


def test_its_first_form_is_read_and_nothing_of_it_may_be_retired_soon(tmp_path: Path) -> None:
    first = {"trust_domain": "a.b", "active": "root-1", "sequence": 1, "roots": ["root-1"]}
    (tmp_path / "authority.json").write_text(json.dumps(first))
    found = authority_manifest.read(tmp_path, now_s=NOW_S)
    assert found is not None
    assert found.root("root-1").until_s == NOW_S + SVID_TTL_S_MAX


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"trust_domain": 1, "active": 2, "sequence": "x", "roots": [3]}']
)
def test_what_is_no_manifest_is_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "authority.json").write_text(text)
    with pytest.raises(StorageCorruptError):
        authority_manifest.read(tmp_path, now_s=NOW_S)


def test_a_missing_one_is_damage_and_another_domains_is_refused(tmp_path: Path) -> None:
    assert authority_manifest.read(tmp_path, now_s=NOW_S) is None
    with pytest.raises(StorageCorruptError):
        authority_manifest.of_domain(tmp_path, "a.b", now_s=NOW_S)
    authority_manifest.write(tmp_path, manifest(ONE))
    with pytest.raises(IdentityError) as caught:
        authority_manifest.of_domain(tmp_path, "c.d", now_s=NOW_S)
    assert caught.value.reason == "wrong-trust-domain"
