import os
import shutil
from pathlib import Path

import pytest

from plantroom import policies
from plantroom.policies.bundle import Bundle
from plantroom.policies.source import BundleSource
from plantroom.wire.errors import ConfigError


class Hand:
    """A wall clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_us = 1_800_000_000_000_000

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(policies.bundle_dir(), made, ignore=ignored)
    return made


@pytest.fixture
def source(folder: Path, clock: Hand, tmp_path: Path) -> BundleSource:
    return BundleSource(folder, clock=clock, key=None, keep=tmp_path / "kept.json")


def taken(source: BundleSource) -> Bundle:
    return source.first(lambda found: found)


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_bundle_that_ships_is_neither_watched_nor_kept(clock: Hand, tmp_path: Path) -> None:
    keep = tmp_path / "kept.json"
    source = BundleSource(None, clock=clock, key=None, keep=keep)
    assert taken(source).revision
    assert (source.watched, source.origin, source.age_s) == (False, "shipped", 0.0)
    assert not keep.exists()


def test_an_edit_is_seen_once(source: BundleSource, folder: Path) -> None:
    first = taken(source)
    assert source.look() is None
    edit(folder, "acl/data.json", '"deny_ttl_s": 15', '"deny_ttl_s": 5')
    found = source.look()
    assert found is not None
    assert found.revision != first.revision
    assert source.look() is None


def test_a_touched_file_with_the_same_text_is_the_same_revision(
    source: BundleSource, folder: Path
) -> None:
    first = taken(source)
    os.utime(folder / "acl" / "data.json", ns=(1, 1))
    found = source.look()
    assert found is not None
    assert found.revision == first.revision


def test_a_broken_edit_is_refused_once_and_its_correction_taken(
    source: BundleSource, folder: Path, clock: Hand
) -> None:
    taken(source)
    edit(folder, "acl/data.json", '"deny_ttl_s": 15', '"deny_ttl_s": ')
    with pytest.raises(ConfigError, match="is not JSON") as caught:
        source.look()
    assert source.refused(caught.value)
    assert not source.refused(caught.value), "no news"
    clock.now_us += 60_000_000
    assert source.look() is None, "still the same broken text"
    assert source.age_s == 60
    edit(folder, "acl/data.json", '"deny_ttl_s": ', '"deny_ttl_s": 15')
    assert source.look() is not None
    source.adopted()
    assert (source.fault, source.age_s) == ("", 0.0)


def test_a_folder_that_is_away_changes_nothing_and_is_read_when_it_is_back(
    source: BundleSource, folder: Path
) -> None:
    taken(source)
    folder.rename(folder.with_name("away"))
    for _ in range(2):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            source.look()
    source.refused(caught.value)
    folder.with_name("away").rename(folder)
    assert source.look() is not None


def test_the_last_good_bundle_stands_in_at_a_start(
    source: BundleSource, folder: Path, clock: Hand, tmp_path: Path
) -> None:
    good = taken(source)
    shutil.rmtree(folder)
    clock.now_us += 3_600_000_000
    again = BundleSource(folder, clock=clock, key=None, keep=tmp_path / "kept.json")
    assert taken(again) == good
    assert again.origin == "last-good"
    assert again.age_s == 3600
    assert "cannot be read" in again.fault


def test_a_bundle_that_cannot_be_used_is_not_kept(
    source: BundleSource, folder: Path, tmp_path: Path, clock: Hand
) -> None:
    good = taken(source)
    edit(folder, "acl/data.json", '"deny_ttl_s": 15', '"deny_ttl_s": 5')

    def use(found: Bundle) -> Bundle:
        if found.revision != good.revision:
            raise ConfigError("no engine takes it")
        return found

    again = BundleSource(folder, clock=clock, key=None, keep=tmp_path / "kept.json")
    assert again.first(use) == good
    assert again.fault == "no engine takes it"


def test_without_any_good_bundle_there_is_no_start(clock: Hand, tmp_path: Path) -> None:
    source = BundleSource(tmp_path / "none", clock=clock, key=None, keep=tmp_path / "kept.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        taken(source)


def test_a_bundle_that_should_be_signed_and_is_not_is_refused(
    folder: Path, clock: Hand, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = tmp_path / "key.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key.write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    source = BundleSource(folder, clock=clock, key=key, keep=None)
    with pytest.raises(ConfigError, match="is not signed"):
        taken(source)
