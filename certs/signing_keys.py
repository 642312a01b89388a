"""Keys that sign updates: PEM files for development, PKCS#11 tokens for production.

A key is named by its file, or by a PKCS#11 URI (RFC 7512):
`pkcs11:token=TOKEN;object=LABEL?module-path=/path/of/library.so`. The PIN is never part of a name:
see `authority_hsm`.
"""

from pathlib import Path
from urllib.parse import parse_qsl, unquote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from plantroom.certs import atomic, authority_hsm, signatures
from plantroom.wire.cose import ED25519, ESP256, PublicKey, Signer
from plantroom.wire.errors import ConfigError, UsageError

URI_START = "pkcs11:"
ALGORITHMS = ("ed25519", "p256")
_FILE_BYTES_MAX = 16 * 1024
_PUBLIC_MARK = b"-----BEGIN PUBLIC KEY-----"


def create(name: str, algorithm: str = ALGORITHMS[0]) -> PublicKey:
    """Make a key under a name that is still free, and its public half beside a file's.

    Raises:
        UsageError: when the name is taken, or a token is to make another kind than P-256.
        IdentityError: when the token cannot make it.
    """
    if name.startswith(URI_START):
        if algorithm != "p256":
            raise UsageError("tokens make P-256 keys", where=name, remedy="add --algorithm p256")
        return signatures.public_key(authority_hsm.generate(_place(name)))
    path = Path(name)
    if path.exists():
        raise UsageError("the file exists", where=name, remedy="choose another name")
    key: signatures.PrivateKey = (
        ed25519.Ed25519PrivateKey.generate()
        if algorithm == "ed25519"
        else ec.generate_private_key(ec.SECP256R1())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    atomic.make_private_folder(path.parent)
    atomic.write(path, pem, mode=atomic.PRIVATE)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    atomic.write(path.with_name(path.name + ".pub"), public, mode=atomic.PUBLIC)
    return signatures.public_key(key)


def signer(name: str) -> Signer:
    """Return what signs with a key.

    Raises:
        ConfigError: when it is no private key of Ed25519 or P-256, or others may read its file.
        IdentityError: when the token does not have it.
    """
    if name.startswith(URI_START):
        return signatures.signer(authority_hsm.load(_place(name)))
    data = _read(name)
    if data.lstrip().startswith(_PUBLIC_MARK):
        raise ConfigError("a public key cannot sign", where=name, remedy="give the private key")
    if Path(name).stat().st_mode & 0o077:
        raise ConfigError("others may read this key", where=name, remedy=f"chmod 600 {name}")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise _no_key(name) from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return signatures.signer(key)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return signatures.signer(key)
    raise _no_key(name)


def public_key(name: str) -> PublicKey:
    """Return the public half of a key, whose file may hold just that.

    Raises:
        ConfigError, IdentityError: as `signer`.
    """
    if name.startswith(URI_START):
        return signer(name).key
    data = _read(name)
    if not data.lstrip().startswith(_PUBLIC_MARK):
        return signer(name).key
    try:
        key = serialization.load_pem_public_key(data)
    except ValueError as error:
        raise _no_key(name) from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return PublicKey(algorithm=ED25519, raw=key.public_bytes_raw())
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        point = key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return PublicKey(algorithm=ESP256, raw=point)
    raise _no_key(name)


def can_sign(name: str) -> bool:
    """Say whether a name is that of a private key."""
    return name.startswith(URI_START) or not _read(name).lstrip().startswith(_PUBLIC_MARK)


def _read(name: str) -> bytes:
    data = atomic.read(Path(name), bytes_max=_FILE_BYTES_MAX)
    if data is None:
        raise ConfigError(
            "there is no such key", where=name, remedy=f"make one: plantroom ota key create {name}"
        )
    return data


def _no_key(name: str) -> ConfigError:
    return ConfigError(
        "not an Ed25519 or P-256 key in PEM without a passphrase",
        where=name,
        remedy="make one: plantroom ota key create FILE",
    )


def _place(uri: str) -> authority_hsm.Place:
    path, _, query = uri.removeprefix(URI_START).partition("?")
    parts = dict(part.partition("=")[::2] for part in path.split(";"))
    module = dict(parse_qsl(query)).get("module-path", "")
    token, label = (unquote(parts.get(name, "")) for name in ("token", "object"))
    if not (module and token and label):
        raise UsageError(
            "not the PKCS#11 URI of a key",
            where=uri,
            remedy="write pkcs11:token=TOKEN;object=LABEL?module-path=/path/of/library.so",
        )
    return authority_hsm.Place(module=module, token=token, label=label)
