import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from plantroom.policies import bundle, signature
from plantroom.policies.bundle import SIGNATURES
from plantroom.wire.errors import ConfigError
from tests.fakes import opa

HERE = Path("bundle")
FILES = {
    ".manifest": '{"roots": ["mqtt"], "revision": "7"}',
    "mqtt/a.rego": "package mqtt.a\n",
    "mqtt/data.json": '{"b": [1.50, true, null, "ä\u2028<"], "a": {}}',
}
CANONICAL = {
    ".manifest": '{"revision":"7","roots":["mqtt"]}',
    "mqtt/data.json": '{"a":{},"b":[1.50,true,null,"ä\\u2028<"]}',
}
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SHA = hashes.SHA256()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def es256(data: bytes) -> bytes:
    r, s = decode_dss_signature(EC_KEY.sign(data, ec.ECDSA(SHA)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


SIGNERS: dict[str, tuple[Any, Callable[[bytes], bytes]]] = {
    "ES256": (EC_KEY, es256),
    "RS256": (RSA_KEY, lambda data: RSA_KEY.sign(data, padding.PKCS1v15(), SHA)),
    "PS256": (RSA_KEY, lambda data: RSA_KEY.sign(data, padding.PSS(padding.MGF1(SHA), 32), SHA)),
    "EdDSA": (ED_KEY, ED_KEY.sign),
}


def listed(prefix: str = "", **more: str) -> list[dict[str, str]]:
    return [
        {
            "name": prefix + name,
            "hash": hashlib.sha256(CANONICAL.get(name, text).encode()).hexdigest(),
            "algorithm": "SHA-256",
        }
        | more
        for name, text in FILES.items()
    ]


def signed(payload: object, algorithm: str = "ES256", says: str = "") -> dict[str, str]:
    head = b64(json.dumps({"alg": says or algorithm, "typ": "JWT"}).encode())
    body = b64(json.dumps(payload).encode())
    made = b64(SIGNERS[algorithm][1](f"{head}.{body}".encode()))
    return FILES | {SIGNATURES: json.dumps({"signatures": [f"{head}.{body}.{made}"]})}


@pytest.mark.parametrize("algorithm", sorted(SIGNERS))
def test_what_was_signed_is_taken(algorithm: str) -> None:
    key = SIGNERS[algorithm][0].public_key()
    signature.check(signed({"files": listed()}, algorithm), key, HERE)


def test_the_signer_may_have_stood_above_the_bundle() -> None:
    signature.check(signed({"files": listed("site/policies/")}), EC_KEY.public_key(), HERE)


def refused(files: dict[str, str], what: str, key: Any = None) -> None:
    with pytest.raises(ConfigError, match=re.escape(what)) as caught:
        signature.check(files, key or EC_KEY.public_key(), HERE)
    assert caught.value.where
    assert "opa sign" in caught.value.remedy


def test_nothing_may_be_added_taken_away_or_changed() -> None:
    whole = signed({"files": listed()})
    refused(whole | {"mqtt/b.rego": "package mqtt.b\n"}, "not in the signature")
    refused({k: v for k, v in whole.items() if k != "mqtt/a.rego"}, "is missing")
    refused(whole | {"mqtt/a.rego": "package mqtt.a\n\nallow := true\n"}, "not the one")
    refused(whole | {"mqtt/data.json": FILES["mqtt/data.json"].replace("true", "false")}, "not the")
    refused(whole | {"mqtt/data.json": FILES["mqtt/data.json"].replace("1.50", "1.5")}, "not the")
    signature.check(
        whole | {"mqtt/data.json": FILES["mqtt/data.json"].replace(" ", "\n")},
        EC_KEY.public_key(),
        HERE,
    )


def test_a_bundle_without_a_signature_is_refused() -> None:
    refused(FILES, "is not signed")
    refused(FILES | {SIGNATURES: '{"signatures": []}'}, "one token")


def test_another_key_and_another_kind_of_signature_are_refused() -> None:
    whole = signed({"files": listed()})
    refused(whole, "does not verify", ec.generate_private_key(ec.SECP256R1()).public_key())
    refused(whole, "does not verify", RSA_KEY.public_key())
    refused(signed({"files": listed()}, says="none"), "does not verify")
    refused(signed({"files": listed()}, says="HS256"), "does not verify")
    refused(signed({"files": listed()}, says="ES384"), "does not verify")
    refused(signed({"files": listed()}, "RS256", says="RS999"), "one token", RSA_KEY.public_key())


def test_a_signature_for_another_purpose_is_refused() -> None:
    refused(signed({"files": listed(), "scope": "write"}), "another scope")
    refused(signed(["files"]), "another scope")
    refused(signed({"files": 7}), "no list of files")
    refused(signed({"files": listed(algorithm="MD5")}), "not the one")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"signatures": "x"}', '{"signatures": ["a.b"]}', '{"signatures": [7]}']
)
def test_a_broken_signature_file_is_named(text: str) -> None:
    refused(FILES | {SIGNATURES: text}, "one token")


def test_a_key_is_read_from_pem(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(EC_KEY.public_key().public_bytes(serialization.Encoding.PEM, form))
    assert signature.load_key(path) == EC_KEY.public_key()


def test_what_is_no_key_to_rely_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(ConfigError, match="cannot be read"):
        signature.load_key(path)
    path.write_text("-----BEGIN PUBLIC KEY-----\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        signature.load_key(path)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 -- to be refused
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(weak.public_bytes(serialization.Encoding.PEM, form))
    with pytest.raises(ConfigError, match="of no kind"):
        signature.load_key(path)


@pytest.mark.real
@pytest.mark.timeout(900)
def test_what_opa_itself_signs_is_taken(tmp_path: Path) -> None:
    command = opa.need()
    folder = opa.bundle_copy(tmp_path)
    for name, key, algorithm in (("ec", EC_KEY, "ES256"), ("rsa", RSA_KEY, "RS256")):
        secret = tmp_path / f"{name}.key"
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        words = ["--signing-alg", algorithm, "--signing-key", str(secret), "--bundle"]
        for where, what in ((folder, "."), (tmp_path, "bundle")):  # in the folder, and above it
            signing = [command, "sign", *words, what, "-o", str(folder)]
            subprocess.run(signing, cwd=where, check=True, capture_output=True, timeout=60)
            signature.check(bundle.read(folder), key.public_key(), folder)
    acl = folder / "acl" / "data.json"
    acl.write_text(acl.read_text().replace('"deny_ttl_s": 15', '"deny_ttl_s": 14'))
    refused(bundle.read(folder), "not the one that was signed", RSA_KEY.public_key())
