"""A device's identity in its folder: enrolled, renewed, refused, killed half way, come back."""

import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import atomic, attestation, own_svid, pem
from plantroom.certs.attestation import Attestation
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.enrolled import (
    BUNDLES_FILE,
    KEY_FILE,
    NEW_CSR_FILE,
    NEW_KEY_FILE,
    SVID_FILE,
    TOKEN_FILE,
    EnrolledSource,
    write_bundles,
    write_token,
)
from plantroom.certs.enrolment_client import Answer, Server
from plantroom.certs.registry import Registry
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError, RefusedError, StorageError, UnreachableError
from plantroom.wire.identity import Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

Open = Callable[..., AbstractContextManager[Any]]
Forge = Callable[..., Svid]
NOWHERE = Server(
    host="127.0.0.1",
    port=1,
    spiffe_id=SpiffeId("building-1.smart.local", "agent/gateway"),
    timeout_s=2,
)


@pytest.fixture
def attests(registry: Registry, clock: Any) -> Iterator[Attestation]:
    with attestation.opened(registry, ca_file="", pcrs=range(8), clock=clock) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path, building: Authority) -> Path:
    place = tmp_path / "identity"
    write_bundles(place, {building.trust_domain: building.bundle()})
    return place


def put(folder: Path, svid: Svid) -> None:
    atomic.write(folder / SVID_FILE, svid.chain_pem)
    atomic.write(folder / KEY_FILE, svid.key_pem)


def test_a_device_enrols_with_its_token_and_finds_its_identity_again(
    enrolment: Open, registry: Registry, folder: Path, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        with pytest.raises(IdentityError) as nothing_yet:
            source.current()
        assert nothing_yet.value.reason == "no-svid"
        assert source.due(0)
        identity = source.renew()
    assert identity.svid.spiffe_id == sensor_id
    assert set(identity.bundles) == {"building-1.smart.local", "smart-building.cloud"}
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == [
        "bundles.json",
        "key.pem",
        "svid.pem",
    ]
    again = EnrolledSource(folder, spiffe_id=sensor_id, server=NOWHERE).current()
    assert again.svid == identity.svid
    assert again.bundles == identity.bundles


def test_renewal_is_due_near_half_life_and_gives_another_key(
    enrolment: Open, registry: Registry, folder: Path, building: Authority, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    old = issue_svid(building, sensor_id, ttl_s=3600)
    put(folder, old)
    half_s = (old.not_before_s + old.not_after_s) / 2
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        assert not source.due(half_s - 190)
        assert source.due(half_s + 190)
        new = source.renew()
    assert new.svid.serial != old.serial
    assert new.svid.key_pem != old.key_pem
    assert own_svid.key_belongs(new.svid)
    assert not source.due(half_s - 190)


class Still:
    """A clock that stands, however long a renewal takes."""

    def __init__(self) -> None:
        self.now_us = SystemClock().wall_us()

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us


def test_failures_keep_the_identity_and_wait_longer_each_time(
    folder: Path, building: Authority, sensor_id: SpiffeId
) -> None:
    clock = Still()
    put(folder, issue_svid(building, sensor_id, ttl_s=3600))
    source = EnrolledSource(
        folder, spiffe_id=sensor_id, server=NOWHERE, clock=clock, chance=lambda: 1.0
    )
    before = source.current()
    waits = []
    for _ in range(8):
        with pytest.raises(UnreachableError):
            source.renew()
        waits.append(round(source.schedule.due_s - clock.wall_us() / 1e6))
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    assert source.current() == before
    assert isinstance(source.schedule.last_error, UnreachableError)


def test_the_same_key_waits_through_an_outage(
    folder: Path, building: Authority, sensor_id: SpiffeId
) -> None:
    put(folder, issue_svid(building, sensor_id, ttl_s=3600))
    source = EnrolledSource(folder, spiffe_id=sensor_id, server=NOWHERE)
    keys = set()
    for _ in range(3):
        with pytest.raises(UnreachableError):
            source.renew()
        keys.add((folder / NEW_KEY_FILE).read_bytes())
    assert len(keys) == 1


def test_an_answer_that_was_lost_is_given_again(
    enrolment: Open,
    registry: Registry,
    folder: Path,
    sensor_id: SpiffeId,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        with monkeypatch.context() as patch:
            patch.setattr(EnrolledSource, "_keep", _killed)
            with pytest.raises(StorageError):
                source.renew()
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        assert source.renew().svid.spiffe_id == sensor_id
    assert not (folder / TOKEN_FILE).exists()


def _killed(*_: object) -> Svid:
    raise StorageError("killed before the answer was kept")


def test_a_kill_between_the_two_renames_leaves_a_whole_identity(
    folder: Path, building: Authority, sensor_id: SpiffeId
) -> None:
    put(folder, issue_svid(building, sensor_id, ttl_s=3600))
    new = issue_svid(building, sensor_id, ttl_s=3600)
    atomic.write(folder / NEW_KEY_FILE, new.key_pem)
    atomic.write(folder / NEW_CSR_FILE, b"its request")
    atomic.write(folder / SVID_FILE, new.chain_pem)
    found = EnrolledSource(folder, spiffe_id=sensor_id, server=NOWHERE).current()
    assert found.svid.serial == new.serial
    assert (folder / KEY_FILE).read_bytes() == new.key_pem
    assert not (folder / NEW_KEY_FILE).exists()
    assert not (folder / NEW_CSR_FILE).exists()


def test_a_refused_device_comes_back_with_a_new_token(
    enrolment: Open, registry: Registry, building: Authority, folder: Path, forge: Forge
) -> None:
    sensor_id = SpiffeId.parse("spiffe://building-1.smart.local/agent/hvac-001")
    registry.create(sensor_id)
    long_s = 40 * 86_400
    put(folder, forge(building, str(sensor_id), not_before_s=-long_s, not_after_s=60 - long_s))
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        with pytest.raises(RefusedError) as caught:
            source.renew()
        assert caught.value.reason == "expired-too-long"
        write_token(folder, registry.token_create(sensor_id))
        assert source.renew().svid.not_after_s > source.schedule.due_s


def test_a_building_that_was_off_for_days_comes_back_without_an_operator(
    enrolment: Open, registry: Registry, building: Authority, folder: Path, forge: Forge
) -> None:
    sensor_id = SpiffeId.parse("spiffe://building-1.smart.local/agent/hvac-001")
    registry.create(sensor_id)
    days_s = 3 * 86_400
    put(folder, forge(building, str(sensor_id), not_before_s=-days_s, not_after_s=3600 - days_s))
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        assert source.due(source.current().svid.not_after_s)
        source.renew()
        assert port.server.granted_late == 1


def test_an_impostor_of_the_port_gets_neither_token_nor_csr(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    building: Authority,
    cloud: Authority,
    folder: Path,
    sensor_id: SpiffeId,
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    stranger = TrustBundle(
        trust_domain=building.trust_domain, roots_der=cloud.bundle().roots_der, sequence=1
    )
    with enrolment() as port:
        other_name = Server(
            host=port.address.host, port=port.address.port, spiffe_id=sensor_id, timeout_s=5
        )
        with pytest.raises(IdentityError) as wrong_name:
            EnrolledSource(folder, spiffe_id=sensor_id, server=other_name).renew()
        write_bundles(folder, {building.trust_domain: stranger})
        with pytest.raises(IdentityError) as wrong_root:
            EnrolledSource(folder, spiffe_id=sensor_id, server=port.address).renew()
        assert port.server.granted == 0
    assert wrong_name.value.reason == "wrong-peer"
    assert wrong_root.value.reason == "server-unverified"


def test_a_token_of_another_id_is_refused_and_not_spent(
    enrolment: Open, registry: Registry, folder: Path, sensor_id: SpiffeId
) -> None:
    other = SpiffeId.parse("spiffe://building-1.smart.local/agent/energy-001")
    registry.create(other)
    token = registry.token_create(other)
    write_token(folder, token)
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        with pytest.raises(RefusedError) as caught:
            source.renew()
        assert caught.value.reason == "wrong-id"
        assert not (folder / SVID_FILE).exists()
        write_bundles(folder.parent / "other", source._bundles)
        write_token(folder.parent / "other", token)
        right = EnrolledSource(folder.parent / "other", spiffe_id=other, server=port.address)
        assert right.renew().svid.spiffe_id == other


def test_an_answer_for_another_id_or_key_is_not_kept(
    building: Authority, folder: Path, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    source = EnrolledSource(folder, spiffe_id=sensor_id, server=NOWHERE)
    pending = source._pending()
    for given, reason in ((gateway_id, "wrong-id"), (sensor_id, "bad-key")):
        chain = issue_svid(building, given, ttl_s=600).chain_pem
        with pytest.raises(IdentityError) as caught:
            source._keep(Answer(chain_pem=chain, bundles={}), pending)
        assert caught.value.reason == reason
    assert not (folder / SVID_FILE).exists()


def test_a_bundle_never_goes_back(
    enrolment: Open, registry: Registry, building: Authority, folder: Path, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    newer = TrustBundle(
        trust_domain=building.trust_domain, roots_der=building.bundle().roots_der, sequence=7
    )
    write_bundles(folder, {building.trust_domain: newer})
    with enrolment() as port:
        identity = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address).renew()
    assert identity.bundles[building.trust_domain].sequence == 7


def test_without_a_bundle_the_remedy_is_named(tmp_path: Path, sensor_id: SpiffeId) -> None:
    with pytest.raises(IdentityError, match="identity bundle show") as no_bundle:
        EnrolledSource(tmp_path / "empty", spiffe_id=sensor_id, server=NOWHERE).renew()
    assert no_bundle.value.reason == "no-bundle"


@pytest.mark.parametrize("form", ["pem", "bundle", "bundles"])
def test_the_first_bundle_may_come_from_a_file_in_any_form(
    tmp_path: Path, building: Authority, sensor_id: SpiffeId, form: str
) -> None:
    from plantroom.certs import bundle, pem

    own = building.bundle()
    text = {
        "pem": pem.bundle_pem(own.roots_der),
        "bundle": bundle.to_json(own),
        "bundles": bundle.all_to_json({own.trust_domain: own}),
    }[form]
    given = tmp_path / "given"
    given.write_bytes(text)
    source = EnrolledSource(
        tmp_path / "new", spiffe_id=sensor_id, server=NOWHERE, bundle_file=given
    )
    assert source._bundles[own.trust_domain].roots_der == own.roots_der


def test_an_svid_of_another_id_in_the_folder_is_not_used(
    folder: Path, building: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    put(folder, issue_svid(building, gateway_id, ttl_s=600))
    with pytest.raises(IdentityError):
        EnrolledSource(folder, spiffe_id=sensor_id, server=NOWHERE).current()


def test_the_device_does_not_load_cryptography_or_asyncio_for_its_identity() -> None:
    import json
    import subprocess
    import sys

    probe = (
        "import sys, json, plantroom.certs.enrolled, plantroom.certs.csr;"
        "print(json.dumps([m.partition('.')[0] for m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"cryptography", "asyncio", "logging", "http", "subprocess"}


@pytest.mark.parametrize(
    "damaged", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_svid_is_set_aside_and_a_token_brings_a_new_one(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    attests: Attestation,
    registry: Registry,
    folder: Path,
    sensor_id: SpiffeId,
    damaged: bytes,
) -> None:
    registry.create(sensor_id)
    write_token(folder, registry.token_create(sensor_id))
    with enrolment(attestation=attests) as port:
        EnrolledSource(folder, spiffe_id=sensor_id, server=port.address).renew()
        (folder / SVID_FILE).write_bytes(damaged)
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        with pytest.raises(IdentityError, match="not enrolled yet"):
            source.current()
        with pytest.raises(IdentityError, match="no SVID and no join token"):
            source.renew()
        assert (folder / f"{SVID_FILE}.damaged").read_bytes() == damaged
        write_token(folder, registry.token_create(sensor_id))
        assert source.renew().svid.spiffe_id == sensor_id


def test_damaged_bundles_are_set_aside_and_those_that_were_given_serve(
    folder: Path, sensor_id: SpiffeId
) -> None:
    given = folder / "given.json"
    given.write_bytes((folder / BUNDLES_FILE).read_bytes())
    (folder / BUNDLES_FILE).write_bytes(b"{")
    source = EnrolledSource(folder, spiffe_id=sensor_id, server=NOWHERE, bundle_file=given)
    assert (folder / f"{BUNDLES_FILE}.damaged").exists()
    write_token(folder, "token")
    with pytest.raises(UnreachableError):  # it knows whom to trust, and nobody is there
        source.renew()


def test_an_operator_may_put_roots_where_the_bundles_are_kept(
    enrolment: Open, registry: Registry, building: Authority, tmp_path: Path, sensor_id: SpiffeId
) -> None:
    """What `identity bundle show` prints is PEM, and `bundles.json` where it is told to be put."""
    registry.create(sensor_id)
    folder = tmp_path / "joining"
    folder.mkdir()
    atomic.write(folder / BUNDLES_FILE, pem.bundle_pem(building.bundle().roots_der))
    write_token(folder, registry.token_create(sensor_id))
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        assert source.renew().bundles[building.trust_domain].roots_der
    assert not (folder / f"{BUNDLES_FILE}.damaged").exists()
