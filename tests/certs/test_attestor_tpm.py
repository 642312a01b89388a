"""A device with a real TPM 2.0 (swtpm) against the real enrolment port, lies included."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import attestation, attestor_tpm, enrolment_client, key_helper, tpm_wire
from plantroom.certs.attestor_tpm import TpmAttestor
from plantroom.certs.authority import Authority
from plantroom.certs.enrolled import EnrolledSource, write_bundles, write_token
from plantroom.certs.enrolment_client import Server
from plantroom.certs.registry import Registry
from plantroom.certs.tpm import Tpm, TpmError
from plantroom.wire.errors import IdentityError, RefusedError, UnreachableError
from plantroom.wire.spiffe import SpiffeId
from tests.fakes import swtpm

Open = Callable[..., AbstractContextManager[Any]]
NOWHERE = Server(
    host="127.0.0.1", port=1, spiffe_id=SpiffeId("building-1.smart.local", "agent/gateway")
)


def test_without_a_chip_the_agent_says_so(building: Authority, sensor_id: SpiffeId) -> None:
    attestor = TpmAttestor("/no/such/tpm")
    assert attestor.every_time
    with pytest.raises(UnreachableError, match="TPM does not answer"):
        attestor.enrol(NOWHERE, building.bundle(), key_helper.make(sensor_id))


@pytest.mark.parametrize(
    "challenge",
    [None, {}, {"nonce": "x", "credential": "", "seed": "", "pcrs": [0]}]
    + [{"nonce": "", "credential": "", "seed": "", "pcrs": pcrs} for pcrs in ([], [24], "x", [-1])],
)
def test_a_challenge_that_is_none_is_refused(challenge: object) -> None:
    with pytest.raises(IdentityError, match="challenge"):
        attestor_tpm._answer(None, 0, 0, challenge, b"")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def chip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chip")
    swtpm.make(folder)
    return folder


@pytest.fixture
def chip(chip_folder: Path) -> Iterator[str]:
    with swtpm.started(chip_folder) as place:
        yield place


@pytest.fixture
def attests(registry: Registry, clock: Any, chip_folder: Path) -> Iterator[attestation.Attestation]:
    ca = chip_folder / "ca" / "issuercert.pem"
    with attestation.opened(registry, ca_file=str(ca), pcrs=range(8), clock=clock) as opened:
        yield opened


def source_of(folder: Path, building: Authority, place: str, **more: Any) -> EnrolledSource:
    write_bundles(folder, {building.trust_domain: building.bundle()})
    attestor = TpmAttestor(place, kind=more.pop("kind", "rsa"))
    return EnrolledSource(folder, attestor=attestor, **more)


def refused(source: EnrolledSource) -> str:
    with pytest.raises(RefusedError) as caught:
        source.renew()
    return caught.value.reason


@pytest.mark.real
def test_a_device_proves_its_chip_at_every_renewal(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    attests: attestation.Attestation,
    registry: Registry,
    building: Authority,
    tmp_path: Path,
    sensor_id: SpiffeId,
    chip: str,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.create(sensor_id, selectors=(TpmAttestor(chip).fingerprint(),))
    with (
        enrolment(attestation=attests) as port,
        caplog.at_level(logging.INFO, "plantroom.certs.audit"),
    ):
        source = source_of(
            tmp_path, building, chip, spiffe_id=sensor_id, server=port.address, clock=clock
        )
        first = source.renew().svid
        assert source.renew().svid.serial != first.serial
        csr, trust = key_helper.make(sensor_id).csr_pem, building.bundle()
        with pytest.raises(RefusedError) as alone:  # a stolen key and SVID are not the chip
            enrolment_client.renew(port.address, trust, svid=first, csr_pem=csr)
        assert alone.value.reason == "attestation-needed"
        token = registry.token_create(sensor_id)
        write_token(tmp_path / "thief", token)
        write_bundles(tmp_path / "thief", {building.trust_domain: building.bundle()})
        thief = EnrolledSource(tmp_path / "thief", spiffe_id=sensor_id, server=port.address)
        assert refused(thief) == "attestation-needed"
        clock.offset_s = 90 * 86_400  # asleep for three months: nobody has to come
        port.source.renew()
        again = EnrolledSource(
            tmp_path,
            spiffe_id=sensor_id,
            server=port.address,
            attestor=TpmAttestor(chip),
            clock=clock,
        )
        assert again.due(clock.wall_us() / 1e6)
        assert again.renew().svid.not_after_s > first.not_after_s
    lines = [record.getMessage().split()[0] for record in caplog.records]
    assert lines.count("attested") == 3


@pytest.mark.real
def test_refusals_of_a_real_chip_each_with_its_reason_and_row(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    attests: attestation.Attestation,
    registry: Registry,
    building: Authority,
    tmp_path: Path,
    sensor_id: SpiffeId,
    chip: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pub_hash = TpmAttestor(chip).fingerprint()
    with (
        enrolment(attestation=attests) as port,
        caplog.at_level(logging.WARNING, "plantroom.certs.audit"),
    ):
        source = source_of(tmp_path, building, chip, spiffe_id=sensor_id, server=port.address)
        assert refused(source) == "no-entry"
        registry.create(sensor_id, selectors=(pub_hash,))
        source.renew()
        with monkeypatch.context() as patch:  # a signing key that signs whatever it is given
            template = tpm_wire.ak_template()
            loose = int.from_bytes(template[4:8], "big") & ~tpm_wire.RESTRICTED
            free = template[:4] + loose.to_bytes(4, "big") + template[8:]
            patch.setattr(tpm_wire, "ak_template", lambda: free)
            assert refused(source) == "ak-attributes"
        with monkeypatch.context() as patch:  # a secret that the chip did not open
            patch.setattr(Tpm, "activate_credential", lambda *_: bytes(32))
            assert refused(source) == "ak-name"
        with monkeypatch.context() as patch:  # another question than the one that was asked
            quote = Tpm.quote
            patch.setattr(Tpm, "quote", lambda tpm, ak, _, pcrs: quote(tpm, ak, bytes(32), pcrs))
            assert refused(source) == "quote-nonce"
        swtpm.extend(chip, 7, hashlib.sha256(b"evil boot loader").digest())
        assert refused(source) == "pcr-policy"
        with monkeypatch.context() as patch:  # and registers that are not the chip's any more
            golden = attests.store.goldens()[0].pcrs
            patch.setattr(Tpm, "pcr_read", lambda _, pcr: golden[pcr])
            assert refused(source) == "quote-pcrs"
        attests.store.accept_quoted(sensor_id)
        source.renew()
    reasons = [record.getMessage().rpartition("=")[2] for record in caplog.records]
    assert reasons == [
        "no-entry",
        "ak-attributes",
        "ak-name",
        "quote-nonce",
        "pcr-policy",
        "quote-pcrs",
    ]


@pytest.mark.real
def test_an_answer_is_taken_once(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    attests: attestation.Attestation,
    registry: Registry,
    building: Authority,
    tmp_path: Path,
    sensor_id: SpiffeId,
    chip: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.create(sensor_id, selectors=(TpmAttestor(chip).fingerprint(),))
    sent: list[tuple[str, Any]] = []
    post = enrolment_client.post

    def remembered(server: Server, trust: Any, path: str, table: Any, **more: Any) -> Any:
        sent.append((path, table))
        return post(server, trust, path, table, **more)

    monkeypatch.setattr(enrolment_client, "post", remembered)
    with enrolment(attestation=attests) as port:
        source_of(tmp_path, building, chip, spiffe_id=sensor_id, server=port.address).renew()
        with pytest.raises(RefusedError) as caught:
            post(port.address, building.bundle(), *sent[-1])
    assert caught.value.reason == "nonce-used"


@pytest.mark.real
def test_chips_of_unknown_makers(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    registry: Registry,
    building: Authority,
    tmp_path: Path,
    sensor_id: SpiffeId,
    chip: str,
    clock: Any,
) -> None:
    attestor = TpmAttestor(chip)
    registry.create(sensor_id, selectors=(attestor.fingerprint(),))
    with (
        attestation.opened(registry, ca_file="", pcrs=[0], clock=clock) as attests,
        enrolment(attestation=attests) as port,
    ):
        options = {"spiffe_id": sensor_id, "server": port.address}
        assert refused(source_of(tmp_path / "a", building, chip, **options)) == "ek-ca-unknown"
        # swtpm_setup gives no certificate to the P-256 key, nor a persistent place
        ecc = source_of(tmp_path / "b", building, chip, kind="ecc", **options)
        assert refused(ecc) == "ek-unknown"
        pub_hash = TpmAttestor(chip, kind="ecc").fingerprint()
        attests.store.ek_allow(pub_hash.rpartition(":")[2])
        registry.create(sensor_id, selectors=(pub_hash,))
        assert ecc.renew().svid.spiffe_id == sensor_id


@pytest.mark.real
def test_the_chip_itself_opens_no_secret_for_another_ak(chip: str) -> None:
    from plantroom.certs import tpm_check

    with Tpm(chip) as tpm:
        ek_public = tpm.read_public(tpm_wire.HANDLE_EK_RSA)
        ak, ak_public = tpm.create_primary(tpm_wire.ak_template())
        name = tpm_wire.name_of(ak_public)
        sealed = tpm_check.make_credential(ek_public, name, b"secret")
        assert tpm.activate_credential(ak, tpm_wire.HANDLE_EK_RSA, *sealed) == b"secret"
        other = tpm_check.make_credential(ek_public, tpm_wire.name_of(b"another key"), b"secret")
        with pytest.raises(TpmError):
            tpm.activate_credential(ak, tpm_wire.HANDLE_EK_RSA, *other)
