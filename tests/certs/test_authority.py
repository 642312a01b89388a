"""The issuer: what it signs, what it keeps, and what it refuses to open."""

import json
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import certificates, svid
from plantroom.certs.authority import Authority
from plantroom.wire.errors import IdentityError, StorageCorruptError, StorageError
from plantroom.wire.spiffe import SpiffeId

TRUST_DOMAIN = "building-1.smart.local"


def test_an_svid_conforms_and_carries_host_names_beside_its_id(
    building: Authority, gateway_id: SpiffeId
) -> None:
    key = certificates.new_key()
    chain = building.issue(
        gateway_id, key.public_key(), ttl_s=3600, dns=("gw.local",), ips=("127.0.0.1", "::1")
    )
    made = svid.parse_svid(chain, certificates.key_pem(key))
    assert made.spiffe_id == gateway_id
    leaf = x509.load_pem_x509_certificate(chain)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gw.local"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "::1"]
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


def test_the_root_conforms_to_spiffe(building: Authority) -> None:
    root = svid.load(building.bundle().roots_der[0])
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert constraints.critical
    assert constraints.value.ca
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{TRUST_DOMAIN}"]
    with pytest.raises(IdentityError) as caught:
        svid.check_leaf(root)
    assert caught.value.reason == "no-path"


def test_an_svid_is_back_dated_by_at_most_a_tenth_of_its_life(
    building: Authority, sensor_id: SpiffeId, clock: Any
) -> None:
    for ttl_s, back_s in ((3600, 60), (20, 2), (2, 0)):
        now_s = clock.wall_us() // 1_000_000
        key = certificates.new_key()
        made = svid.parse_svid(
            building.issue(sensor_id, key.public_key(), ttl_s=ttl_s), certificates.key_pem(key)
        )
        assert made.not_before_s - (now_s - back_s) in {0, 1}
        assert made.not_after_s - made.not_before_s == ttl_s + back_s


def test_an_svid_never_outlives_the_root(
    building: Authority, sensor_id: SpiffeId, clock: Any
) -> None:
    clock.offset_s = certificates.ROOT_TTL_S - 100
    chain = building.issue(sensor_id, certificates.new_key().public_key(), ttl_s=3600)
    root = svid.load(building.bundle().roots_der[0])
    leaf = x509.load_pem_x509_certificate(chain)
    assert leaf.not_valid_after_utc == root.not_valid_after_utc


def test_an_expired_root_signs_nothing(
    building: Authority, sensor_id: SpiffeId, clock: Any
) -> None:
    clock.offset_s = certificates.ROOT_TTL_S + 1
    with pytest.raises(IdentityError) as caught:
        building.issue(sensor_id, certificates.new_key().public_key(), ttl_s=3600)
    assert caught.value.reason == "root-expired"


@pytest.mark.parametrize("ttl_s", [-1, 0, 1, 8 * 86_400])
def test_a_life_out_of_range_is_refused(
    building: Authority, sensor_id: SpiffeId, ttl_s: int
) -> None:
    with pytest.raises(IdentityError) as caught:
        building.issue(sensor_id, certificates.new_key().public_key(), ttl_s=ttl_s)
    assert caught.value.reason == "ttl"


def test_another_trust_domains_id_is_not_signed(building: Authority) -> None:
    operator = SpiffeId.parse("spiffe://smart-building.cloud/operator/ann")
    with pytest.raises(IdentityError) as caught:
        building.issue(operator, certificates.new_key().public_key(), ttl_s=60)
    assert caught.value.reason == "wrong-trust-domain"


def test_opened_again_it_is_the_same_and_its_key_is_its_own(
    building: Authority, tmp_path: Path, clock: Any
) -> None:
    folder = tmp_path / "building-authority"
    again = Authority.open(folder, TRUST_DOMAIN, clock=clock)
    assert again.bundle() == building.bundle()
    assert building.bundle().sequence == 1
    assert stat.S_IMODE((folder / "root-1.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_opened_by_many_at_once_it_is_made_once(tmp_path: Path, clock: Any) -> None:
    barrier = threading.Barrier(6)

    def open_it(_: int) -> bytes:
        barrier.wait(10)
        return Authority.open(tmp_path / "new", TRUST_DOMAIN, clock=clock).bundle().roots_der[0]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(open_it, range(6)))) == 1


def test_killed_before_its_manifest_it_is_made_anew(
    building: Authority, tmp_path: Path, clock: Any
) -> None:
    folder = tmp_path / "building-authority"
    (folder / "authority.json").unlink()
    assert Authority.open(folder, TRUST_DOMAIN, clock=clock).bundle() != building.bundle()


def _break_manifest(folder: Path) -> None:
    (folder / "authority.json").write_text("{")


def _other_active(folder: Path) -> None:
    table = json.loads((folder / "authority.json").read_text())
    (folder / "authority.json").write_text(json.dumps(table | {"active": "root-9"}))


def _lose_key(folder: Path) -> None:
    (folder / "root-1.key").unlink()


def _other_key(folder: Path) -> None:
    (folder / "root-1.key").write_bytes(certificates.key_pem(certificates.new_key()))


def _break_certificate(folder: Path) -> None:
    (folder / "root-1.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")


@pytest.mark.parametrize(
    "damage", [_break_manifest, _other_active, _lose_key, _other_key, _break_certificate]
)
@pytest.mark.usefixtures("building")
def test_a_damaged_authority_is_an_error_and_never_replaced(
    tmp_path: Path, clock: Any, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "building-authority"
    damage(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StorageError) as caught:
        Authority.open(folder, TRUST_DOMAIN, clock=clock)
    assert isinstance(caught.value, StorageCorruptError)
    assert str(folder) in caught.value.where
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.usefixtures("building")
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, clock: Any) -> None:
    folder = tmp_path / "building-authority"
    (folder / "root-1.key").chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600") as caught:
        Authority.open(folder, TRUST_DOMAIN, clock=clock)
    assert caught.value.reason == "key-mode"


@pytest.mark.usefixtures("building")
def test_an_authority_of_another_trust_domain_is_not_opened(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(IdentityError) as caught:
        Authority.open(tmp_path / "building-authority", "smart-building.cloud", clock=clock)
    assert caught.value.reason == "wrong-trust-domain"
