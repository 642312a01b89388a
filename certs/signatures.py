"""Sign and verify with `cryptography`: the way of gateway, cloud and the author's command line."""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from plantroom.wire.cose import ED25519, ESP256, SIGNATURE_BYTES, PublicKey, Signer
from plantroom.wire.errors import ConfigError

_HALF = SIGNATURE_BYTES // 2
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def verify(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Say whether `key` has signed `message`; what cannot be checked is a no."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        if key.algorithm == ED25519:
            ed25519.Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, message)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.raw)
            r, s = signature[:_HALF], signature[_HALF:]
            pair = int.from_bytes(r, "big"), int.from_bytes(s, "big")
            encoded = utils.encode_dss_signature(*pair)
            point.verify(encoded, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):  # ValueError: not a point, not a key
        return False
    return True


def public_key(key: PrivateKey) -> PublicKey:
    """Return the public half as COSE has it."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return PublicKey(algorithm=ED25519, raw=key.public_key().public_bytes_raw())
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return PublicKey(algorithm=ESP256, raw=point)


def load_key(pem: bytes) -> PrivateKey:
    """Read a private key that signs updates: Ed25519 or P-256, PEM without a password.

    Raises:
        ConfigError: when it is none.
    """
    remedy = "make one with plantroom ota key"
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"not a private key without a password: {error}", remedy=remedy
        ) from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ConfigError("key is neither Ed25519 nor P-256", remedy=remedy)


def signer(key: PrivateKey) -> Signer:
    """Make a signer of a private key."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Signer(key=public_key(key), sign=key.sign)

    def sign(message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")

    return Signer(key=public_key(key), sign=sign)
