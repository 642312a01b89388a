import time

import pytest

from plantroom.lab import issuers, people
from plantroom.lab.building import INSPECTOR_ID
from plantroom.lab.layout import Layout
from plantroom.wire.errors import IdentityError, UnreachableError


def ensure(layout: Layout) -> bytes:
    authority = issuers.cloud(layout).authority()
    bundles = {"building-1.smart.local": issuers.building(layout).authority().bundle()}
    people.ensure(layout.inspector, INSPECTOR_ID, authority, bundles)
    return layout.inspector.cert.read_bytes()


def at(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + hours * 3600)


def test_the_files_are_an_identity_that_trusts_both_domains(set_up: Layout) -> None:
    identity = people.load(set_up.inspector)
    assert identity.svid.spiffe_id == INSPECTOR_ID
    assert set(identity.bundles) == {"building-1.smart.local", "smart-building.cloud"}
    assert set_up.inspector.ca.read_text().count("BEGIN CERTIFICATE") == 2


def test_a_certificate_is_renewed_at_half_its_life_and_not_before(
    set_up: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = set_up.inspector.cert.read_bytes()
    at(monkeypatch, 5.9)
    assert ensure(set_up) == first
    at(monkeypatch, 6.1)
    assert ensure(set_up) != first


def test_a_certificate_from_the_future_is_made_again(
    set_up: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = set_up.inspector.cert.read_bytes()
    at(monkeypatch, -1)
    assert ensure(set_up) != first


def test_a_damaged_or_missing_file_is_made_again(set_up: Layout) -> None:
    set_up.inspector.cert.write_text("damaged")
    assert b"BEGIN CERTIFICATE" in ensure(set_up)
    set_up.inspector.bundles.unlink()
    ensure(set_up)
    people.load(set_up.inspector)


def test_an_expired_certificate_says_how_to_renew_it(
    set_up: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, 13)
    with pytest.raises(IdentityError, match=r"expired.*plantroom up"):
        people.load(set_up.inspector)


def test_where_nothing_was_set_up_that_is_said(layout: Layout) -> None:
    with pytest.raises(UnreachableError, match="plantroom up"):
        people.load(layout.operator)
