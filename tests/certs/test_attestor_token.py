"""Joining by token, by join code, and by a key that an operator admits: in either order."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from plantroom.certs import atomic, attestation, join_code
from plantroom.certs.attestation import Attestation
from plantroom.certs.attestor_token import fingerprint
from plantroom.certs.authority import Authority
from plantroom.certs.enrolled import (
    BUNDLES_FILE,
    PIN_FILE,
    TOKEN_FILE,
    EnrolledSource,
    write_token,
)
from plantroom.certs.join_code import JoinCode
from plantroom.certs.registry import Registry
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId

Open = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def attests(registry: Registry, clock: Any) -> Iterator[Attestation]:
    with attestation.opened(registry, ca_file="", pcrs=range(8), clock=clock) as opened:
        yield opened


def test_a_device_that_was_set_up_first_waits_until_its_key_is_admitted(  # noqa: PLR0913, PLR0917 -- fixtures
    enrolment: Open,
    attests: Attestation,
    registry: Registry,
    building: Authority,
    tmp_path: Path,
    sensor_id: SpiffeId,
) -> None:
    folder = tmp_path / "first"
    with enrolment(attestation=attests) as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        with pytest.raises(IdentityError, match="no bundle for") as no_bundle:
            source.renew()
        assert source.fingerprint() in str(no_bundle.value)
        (root,) = building.bundle().roots_der
        atomic.write(folder / PIN_FILE, hashlib.sha256(root).hexdigest().encode())
        with pytest.raises(IdentityError, match="waits to be admitted") as waits:
            source.renew()
        assert waits.value.reason == "not-admitted"
        (waiting,) = attests.store.waiting()
        assert (waiting.fingerprint, waiting.claim) == (source.fingerprint(), str(sensor_id))
        assert f"identity admit {waiting.fingerprint} --spiffe-id {sensor_id}" in str(waits.value)
        registry.create(sensor_id)
        attests.store.admit(waiting.fingerprint, sensor_id)
        assert source.renew().svid.spiffe_id == sensor_id
    assert attests.store.waiting() == ()


def test_a_wrong_pin_gives_nothing_away(
    enrolment: Open, tmp_path: Path, sensor_id: SpiffeId
) -> None:
    folder = tmp_path / "first"
    with enrolment() as port:
        source = EnrolledSource(folder, spiffe_id=sensor_id, server=port.address)
        atomic.write(folder / PIN_FILE, b"0" * 64)
        with pytest.raises(IdentityError) as caught:
            source.renew()
    assert caught.value.reason == "bundle-fingerprint"
    assert not (folder / BUNDLES_FILE).exists()


def test_a_join_code_is_token_and_bundle_in_one(
    enrolment: Open, registry: Registry, building: Authority, tmp_path: Path, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    with enrolment() as port:
        code = JoinCode(
            token=registry.token_create(sensor_id),
            root_sha256=hashlib.sha256(building.bundle().roots_der[0]).hexdigest(),
            address=str(port.address),
            server=port.address.spiffe_id,
            spiffe_id=sensor_id,
        )
        write_token(tmp_path / "new", join_code.build(code))
        source = EnrolledSource(tmp_path / "new", spiffe_id=sensor_id, server=port.address)
        assert source.renew().svid.spiffe_id == sensor_id
    assert not (tmp_path / "new" / TOKEN_FILE).exists()


@pytest.mark.parametrize("csr", [b"", b"-----BEGIN CERTIFICATE REQUEST-----"])
def test_what_is_no_csr_has_no_fingerprint(csr: bytes) -> None:
    with pytest.raises(IdentityError, match="not a CSR"):
        fingerprint(csr)
