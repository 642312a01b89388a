import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from plantroom.certs import light_signatures, signatures, signing_keys
from plantroom.wire import firmware
from plantroom.wire.errors import ConfigError, UsageError
from plantroom.wire.ota_documents import Documents
from plantroom.wire.suit_commands import Target

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


@pytest.mark.parametrize("algorithm", signing_keys.ALGORITHMS)
def test_a_key_is_made_and_signs_and_its_public_half_verifies(
    tmp_path: Path, algorithm: str
) -> None:
    name = str(tmp_path / "folder" / "author.pem")
    made = signing_keys.create(name, algorithm)
    assert Path(name).stat().st_mode & 0o777 == 0o600
    signer = signing_keys.signer(name)
    assert signer.key == made == signing_keys.public_key(name)
    assert signing_keys.public_key(f"{name}.pub") == made
    assert signatures.verify(made, signer.sign(b"message"), b"message")
    assert signing_keys.can_sign(name)
    assert not signing_keys.can_sign(f"{name}.pub")


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    name = str(tmp_path / "key.pem")
    made = signing_keys.create(name)
    with pytest.raises(UsageError, match="exists"):
        signing_keys.create(name)
    assert signing_keys.public_key(name) == made


def test_a_key_that_others_may_read_does_not_sign(tmp_path: Path) -> None:
    name = str(tmp_path / "key.pem")
    signing_keys.create(name)
    Path(name).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        signing_keys.signer(name)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        protection = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


P256 = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish",
        b"-----BEGIN PUBLIC KEY-----\nrubbish\n-----END PUBLIC KEY-----\n",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(P256, b"secret"),
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_what_is_no_key_of_ours_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        signing_keys.public_key(str(path))
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError):
        signing_keys.signer(str(path))


def test_a_key_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ota key create"):
        signing_keys.signer(str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    "uri",
    ["pkcs11:", "pkcs11:token=t;object=o", "pkcs11:object=o?module-path=/x", "pkcs11:x?y"],
)
def test_what_is_no_uri_of_a_key_is_a_usage_error(uri: str) -> None:
    with pytest.raises(UsageError, match="PKCS#11"):
        signing_keys.signer(uri)


def test_tokens_make_p256_keys() -> None:
    with pytest.raises(UsageError, match="p256"):
        signing_keys.create("pkcs11:token=t;object=o?module-path=/x")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a token in a folder of its own; who uses it does so in a process of its own."""
    module = next((one for one in MODULES if Path(one).exists()), "")
    if not (module and shutil.which("softhsm2-util")):
        pytest.skip("SoftHSM2 is not installed: softhsm2")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("PLANTROOM_HSM_PIN", "1234")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "updates"]
    subprocess.run(
        [*command, "--pin", "1234", "--so-pin", "5678"], check=True, capture_output=True, timeout=30
    )
    return f"pkcs11:token=updates;object=author-1?module-path={module}"


def plantroom(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "plantroom.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.real
def test_a_token_signs_what_devices_accept(token: str, tmp_path: Path) -> None:
    missing = plantroom("ota", "key", "show", token)
    assert missing.returncode == 5
    assert "0 P-256 keys" in missing.stderr
    made = plantroom("ota", "key", "create", token, "--algorithm", "p256", "--json")
    assert made.returncode == 0, made.stderr
    shown = plantroom("ota", "key", "show", token, "--json")
    assert json.loads(shown.stdout) == json.loads(made.stdout)
    assert json.loads(shown.stdout)["algorithm"] == "ESP256"
    roots = [str(tmp_path / f"root-{number}.pem") for number in (1, 2, 3)]
    for name in (*roots, str(tmp_path / "head.pem")):
        signing_keys.create(name)
    trust_file, image, manifest = (tmp_path / name for name in ("trust", "image", "manifest"))
    image.write_bytes(b"firmware" * 5000)
    words = [word for root in roots for word in ("--root", root)]
    trusting = plantroom(
        *("ota", "trust", *words, "--author", token, "--head", str(tmp_path / "head.pem")),
        *("--out", str(trust_file)),
    )
    assert trusting.returncode == 0, trusting.stderr
    signing = plantroom(
        *("ota", "sign", str(image), "--version", "2.0", "--key", token, "--out", str(manifest))
    )
    assert signing.returncode == 0, signing.stderr
    vendor_id, class_id = firmware.class_id("plantroom.example", "hvac")
    target = Target(vendor_id=vendor_id, class_id=class_id)
    documents = Documents(trust_file.read_bytes(), verify=light_signatures.verify, target=target)
    assert documents.feed_manifest(manifest.read_bytes()).version == "2.0"
