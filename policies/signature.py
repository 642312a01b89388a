"""The signature of a bundle: OPA's `.signatures.json`, checked with one public key.

It holds one JSON Web Token whose payload lists every file of the bundle with its hash (OPA,
Bundles, "Signing"); `opa sign` makes it. Every file must be listed and every listed file must be
there, so that nothing can be added, taken away or swapped.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from plantroom.policies.bundle import MANIFEST, SIGNATURES
from plantroom.wire.errors import ConfigError

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_FILE_HASHES = {"SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_RSA_BITS_MIN = 2048


def load_key(path: Path) -> PublicKey:
    """Read the public key (PEM: ECDSA, RSA or Ed25519) that bundles have to be signed with.

    Raises:
        ConfigError: when there is no such key in the file.
    """
    remedy = "give the PEM of a public key: openssl pkey -in KEY -pubout"
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"policy bundle's key cannot be read ({error})", where=str(path), remedy=remedy
        ) from error
    fits = isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS_MIN
    )
    if not fits:
        raise ConfigError("policy bundle's key is of no kind that is taken", where=str(path))
    return key  # type: ignore[return-value]  # what has been checked


def check(files: Mapping[str, str], key: PublicKey, folder: Path) -> None:
    """Check that the files are exactly those that the holder of the key has signed.

    Raises:
        ConfigError: naming what is not signed, missing or different.
    """
    text = files.get(SIGNATURES)
    if text is None:
        raise _error("is not signed", folder)
    listed = _listed(_verified(text, key, folder / SIGNATURES), folder / SIGNATURES)
    present = {name for name in files if name != SIGNATURES}
    for name in sorted(present - listed.keys()):
        raise _error("file is not in the signature", folder / name)
    for name in sorted(listed.keys() - present):
        raise _error("file of the signature is missing", folder / name)
    for name, (algorithm, wanted) in listed.items():
        if _file_hash(name, files[name], algorithm) != wanted:
            raise _error("file is not the one that was signed", folder / name)


def _verified(text: str, key: PublicKey, where: Path) -> dict[str, Any]:
    """Return the payload of the one token in `.signatures.json`."""
    try:
        (token,) = json.loads(text)["signatures"]
        head, body, signature = token.split(".")
        algorithm = json.loads(_decoded(head))["alg"]
        _verify(key, algorithm, f"{head}.{body}".encode(), _decoded(signature))
        payload = json.loads(_decoded(body))
    except InvalidSignature:
        raise _error("signature does not verify with the configured key", where) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _error(f"is not a signature file with one token ({error})", where) from error
    if not isinstance(payload, dict) or payload.get("scope"):
        raise _error("signature is for another scope", where)
    return payload


def _verify(key: PublicKey, algorithm: object, signed: bytes, signature: bytes) -> None:
    """Check a JSON Web Signature (RFC 7518 3, RFC 8037 3.1); the key says which kinds may be."""
    kind, size = str(algorithm)[:2], str(algorithm)[2:]
    if isinstance(key, ed25519.Ed25519PublicKey) and algorithm == "EdDSA":
        key.verify(signature, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey) and _CURVES.get(str(algorithm)) == (
        key.curve.name
    ):
        half = (key.key_size + 7) // 8
        if len(signature) != 2 * half:
            raise InvalidSignature
        parts = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        key.verify(encode_dss_signature(*parts), signed, ec.ECDSA(_HASHES[size]))
    elif isinstance(key, rsa.RSAPublicKey) and kind == "RS":
        key.verify(signature, signed, padding.PKCS1v15(), _HASHES[size])
    elif isinstance(key, rsa.RSAPublicKey) and kind == "PS":
        scheme = padding.PSS(padding.MGF1(_HASHES[size]), padding.PSS.DIGEST_LENGTH)
        key.verify(signature, signed, scheme, _HASHES[size])
    else:  # above all `none`, and HS256 with the public key as its secret
        raise InvalidSignature


def _listed(payload: Mapping[str, Any], where: Path) -> dict[str, tuple[str, str]]:
    """Return name, algorithm and hash of every file that was signed.

    Names are as the signer saw them: all below the folder that holds `.manifest`.
    """
    try:
        listed = {
            str(one["name"]).lstrip("/"): (one["algorithm"], one["hash"])
            for one in payload["files"]
        }
    except (TypeError, KeyError) as error:
        raise _error("signature has no list of files", where) from error
    manifest = min((name for name in listed if name.endswith(MANIFEST)), key=len, default="")
    prefix = manifest.removesuffix(MANIFEST)
    own = {SIGNATURES, SIGNATURES.removeprefix(".")}  # `opa sign` lists an old one like this
    return {
        name.removeprefix(prefix): value
        for name, value in listed.items()
        if name.removeprefix(prefix) not in own
    }


def _file_hash(name: str, text: str, algorithm: object) -> str:
    made = hashlib.new(_FILE_HASHES.get(str(algorithm), "sha256"))
    if algorithm not in _FILE_HASHES:
        return ""
    if name.rpartition("/")[2] in {MANIFEST, "data.json"}:
        text = _canonical(json.loads(text, parse_int=_Number, parse_float=_Number))
    made.update(text.encode())
    return made.hexdigest()


class _Number(str):
    """A number as it is written: OPA hashes it so."""

    __slots__ = ()


def _canonical(value: object) -> str:
    """Write JSON as OPA hashes it: keys in order, no space, strings as Go writes them."""
    if isinstance(value, dict):
        pairs = (f"{_canonical(key)}:{_canonical(value[key])}" for key in sorted(value))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, _Number):
        return str(value)
    written = json.dumps(value, ensure_ascii=False)
    return written.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _error(what: str, where: Path) -> ConfigError:
    return ConfigError(
        f"policy bundle: {what}",
        where=str(where),
        remedy="sign it again: opa sign --signing-key KEY --bundle .",
    )
