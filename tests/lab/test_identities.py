import stat

from plantroom.certs import bundle, enrolled
from plantroom.certs.embedded import issue_svid
from plantroom.lab import identities, issuers
from plantroom.lab.building import CLOUD_IDS, GATEWAY_ID, UPLINK_ID
from plantroom.lab.layout import Layout
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
