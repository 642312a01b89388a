"""A root whose key is in an HSM: SoftHSM2, for real (Debian's `softhsm2`)."""

import builtins
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import authority_hsm, certificates
from plantroom.certs.authority import Authority
from plantroom.certs.authority_hsm import HsmKey, Place
from plantroom.certs.authority_rotation import Rotation
from plantroom.certs.embedded import issue_svid
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.handshakes import meet

DOMAIN = "building-1.smart.local"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
MODULE = next((module for module in MODULES if Path(module).exists()), "")
NOWHERE = Place(module="/nowhere/libhsm.so", token="t", label="l")  # noqa: S106 -- a label

softhsm = pytest.mark.skipif(
    not (MODULE and shutil.which("softhsm2-util")), reason="SoftHSM2 is not installed: softhsm2"
)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Make a token; the library reads its configuration once, so all tests share it."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    (folder / "pin").write_text("1234\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        patched.setenv("PLANTROOM_HSM_PIN_FILE", str(folder / "pin"))
        patched.delenv("PLANTROOM_HSM_PIN", raising=False)
        command = ["softhsm2-util", "--init-token", "--free", "--label", "plantroom"]
        subprocess.run(
            [*command, "--pin", "1234", "--so-pin", "5678"],
            check=True,
            capture_output=True,
            timeout=30,
        )
        yield "plantroom"


@softhsm
@pytest.mark.real
def test_a_root_in_an_hsm_is_prepared_signs_and_outlives_a_restart(  # noqa: PLR0913, PLR0917
    token: str,
    building: Authority,
    gateway_id: SpiffeId,
    tmp_path: Path,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "building-authority"
    place = Place(module=MODULE, token=token, label="building-1")
    rotation = Rotation(folder, DOMAIN, clock=clock)
    rotation.prepare(place)
    rotation.activate(force=True)
    rotation.retire(force=True)
    assert not list(folder.glob("*.key"))
    for authority in (building, Authority.open(folder, DOMAIN, clock=clock)):
        made = issue_svid(authority, gateway_id, ttl_s=60)
        bundle = authority.bundle()
        assert meet(Identity(svid=made, bundles={DOMAIN: bundle}, revision=1), made) == gateway_id
        signature = authority.sign(b"a list")
        key = authority._loaded.active.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, b"a list", ec.ECDSA(hashes.SHA256()))
    assert rotation.status()[1][0].kind == "self-signed, HSM"
    with pytest.raises(IdentityError, match="has a key of this label"):
        authority_hsm.generate(place)
    assert rotation.prepare() == "root-3"  # and away from it again, vouched for by it
    authority_hsm.close(place)
    monkeypatch.setenv("PLANTROOM_HSM_PIN", "0000")
    with pytest.raises(IdentityError, match="cannot do it") as caught:
        issue_svid(Authority.open(folder, DOMAIN, clock=clock), gateway_id, ttl_s=60)
    assert caught.value.reason == "hsm"


@softhsm
@pytest.mark.real
def test_a_key_that_is_another_or_not_there_signs_nothing(token: str) -> None:
    one = authority_hsm.generate(Place(module=MODULE, token=token, label="one"))
    other = certificates.new_key().public_key()
    wrong = HsmKey(one.place, other)
    with pytest.raises(IdentityError, match="not the root's"):
        wrong.sign(b"x", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(IdentityError, match="0 private keys"):
        HsmKey(Place(module=MODULE, token=token, label="none"), other).sign(
            b"x", ec.ECDSA(hashes.SHA256())
        )
    with pytest.raises(IdentityError, match="SHA-256 only"):
        one.sign(b"x", ec.ECDSA(hashes.SHA384()))


@softhsm
@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Exception ignored in. 'pkcs11")  # closed under its feet
def test_a_session_that_died_is_opened_again(token: str) -> None:
    key = authority_hsm.generate(Place(module=MODULE, token=token, label="dies"))
    key.sign(b"x", ec.ECDSA(hashes.SHA256()))
    authority_hsm._session(key.place).close()
    key.sign(b"y", ec.ECDSA(hashes.SHA256()))


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("pkcs11"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(IdentityError, match=r"plantroom\[hsm\]"):
        authority_hsm.generate(NOWHERE)


def test_a_pin_that_is_not_given_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PLANTROOM_HSM_PIN", raising=False)
    monkeypatch.delenv("PLANTROOM_HSM_PIN_FILE", raising=False)
    with pytest.raises(IdentityError, match="no PIN"):
        authority_hsm._pin()
    monkeypatch.setenv("PLANTROOM_HSM_PIN_FILE", str(tmp_path / "none"))
    with pytest.raises(IdentityError, match="cannot be read"):
        authority_hsm._pin()
