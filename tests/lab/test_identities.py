import shutil
import stat

import pytest

from plantroom.certs import bundle, enrolled
from plantroom.certs.embedded import issue_svid
from plantroom.lab import identities, issuers, setup
from plantroom.lab.building import CLOUD_IDS, GATEWAY_ID, UPLINK_ID
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from plantroom.wire.errors import IdentityError
from tests.lab.conftest import DEVICES


def test_everybody_has_an_entry_with_their_own_issuer(set_up: Layout) -> None:
    with issuers.building(set_up).registry() as registry:
        entries = {str(entry.spiffe_id): entry for entry in registry.list()}
    assert {str(device.spiffe_id) for device in DEVICES} <= entries.keys()
    assert "localhost" in entries[str(GATEWAY_ID)].dns
    with issuers.cloud(set_up).registry() as registry:
        ids = {entry.spiffe_id for entry in registry.list()}
    assert {*CLOUD_IDS, UPLINK_ID} <= ids


def test_whoever_has_no_svid_gets_a_token_and_the_bundles(set_up: Layout) -> None:
    for folder in (set_up.uplink_identity, set_up.device_identity(DEVICES[0].name)):
        token = folder / enrolled.TOKEN_FILE
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        trusted = bundle.all_from_json((folder / enrolled.BUNDLES_FILE).read_bytes())
        assert set(trusted) == {"building-1.smart.local", "smart-building.cloud"}


def test_whoever_has_an_svid_keeps_it_and_gets_no_token(set_up: Layout) -> None:
    folder = set_up.device_identity(DEVICES[0].name)
    (folder / enrolled.TOKEN_FILE).unlink()
    (folder / enrolled.SVID_FILE).write_text("kept")
    assert DEVICES[0].name in identities.prepare(set_up, DEVICES)
    assert not (folder / enrolled.TOKEN_FILE).exists()


def test_what_an_operator_has_revoked_or_deleted_stays_so(set_up: Layout) -> None:
    revoked, deleted = DEVICES
    with issuers.building(set_up).registry() as registry:
        registry.deny(revoked.spiffe_id, reason="stolen")
        registry.delete(deleted.spiffe_id)
    assert identities.prepare(set_up, DEVICES) == frozenset()
    with issuers.building(set_up).registry() as registry:
        assert deleted.spiffe_id not in {entry.spiffe_id for entry in registry.list()}


def test_whoever_is_of_no_root_of_now_is_given_them_and_a_token(set_up: Layout) -> None:
    folder = set_up.device_identity(DEVICES[0].name)
    issuer = issuers.building(set_up)
    made = issue_svid(issuer.authority(), DEVICES[0].spiffe_id, ttl_s=600)
    (folder / enrolled.SVID_FILE).write_bytes(made.chain_pem)
    (folder / enrolled.TOKEN_FILE).unlink()
    rotation = issuer.rotation()
    rotation.prepare()
    rotation.activate(force=True)
    identities.prepare(set_up, DEVICES)
    assert not (folder / enrolled.TOKEN_FILE).exists()  # the old root is still trusted
    rotation.retire(force=True)
    identities.prepare(set_up, DEVICES)
    assert not (folder / enrolled.SVID_FILE).exists()
    assert (folder / enrolled.TOKEN_FILE).exists()
    trusted = bundle.all_from_json((folder / enrolled.BUNDLES_FILE).read_bytes())
    assert trusted == {
        one.trust_domain: one.authority().bundle()
        for one in (issuers.building(set_up), issuers.cloud(set_up))
    }


def told(layout: Layout) -> None:
    """Let each side keep what the other says, as they do over the bridge."""
    both = issuers.building(layout), issuers.cloud(layout)
    for teller, hearer in (both, both[::-1]):
        with teller.trust() as own, hearer.trust() as other:
            other.adopt_bundle(teller.authority().bundle())
            other.adopt_list(own.own_list(teller.trust_domain), own_only=False)


def test_a_gateway_whose_disk_was_lost_is_believed_and_joined_again(set_up: Layout) -> None:
    revoked, sensor = DEVICES
    below, above = issuers.building(set_up), issuers.cloud(set_up)
    identity = set_up.device_identity(sensor.name)
    made = issue_svid(below.authority(), sensor.spiffe_id, ttl_s=600)
    (identity / enrolled.SVID_FILE).write_bytes(made.chain_pem)
    with below.registry() as registry:
        registry.deny(revoked.spiffe_id, reason="stolen")
        registry.deny("ab", reason="leaked")
    told(set_up)
    with above.trust() as trust:
        kept = trust.lists()[below.trust_domain]
    shutil.rmtree(set_up.gateway)
    assert setup.prepare(set_up, Flags(devices=2), DEVICES) == {sensor.name}
    assert not (identity / enrolled.SVID_FILE).exists()  # of a root that nobody has any more
    assert (identity / enrolled.TOKEN_FILE).exists()
    with above.trust() as trust:
        assert trust.bundles()[below.trust_domain] == below.authority().bundle()
    with below.registry() as registry, pytest.raises(IdentityError, match="stolen"):
        registry.admitted(revoked.spiffe_id)
    told(set_up)  # what the building says from now on is news
    with above.trust() as trust:
        after = trust.lists()[below.trust_domain]
    assert after.sequence > kept.sequence
    assert (after.spiffe_ids, after.serials) == (kept.spiffe_ids, kept.serials)


def test_a_cloud_whose_disk_was_lost_is_believed_again(set_up: Layout) -> None:
    below, above = issuers.building(set_up), issuers.cloud(set_up)
    told(set_up)
    shutil.rmtree(set_up.cloud)
    setup.prepare(set_up, Flags(devices=2), DEVICES)
    with below.trust() as trust:
        assert trust.bundles()[above.trust_domain] == above.authority().bundle()
    assert (set_up.uplink_identity / enrolled.TOKEN_FILE).exists()
    told(set_up)
