"""Verify signatures with OpenSSL's libcrypto: a device's way, without `cryptography`.

Source: RFC 8032 (Ed25519), FIPS 186-5 (ECDSA over P-256), RFC 5480 for the key's encoding.
"""

import ctypes
import functools

from plantroom.certs import der, libcrypto
from plantroom.wire.cose import ED25519, SIGNATURE_BYTES, PublicKey

_P, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_BYTES = ctypes.c_char_p
_FUNCTIONS = {
    "EVP_DigestVerify": (_INT, (_P, _BYTES, _SIZE, _BYTES, _SIZE)),
    "EVP_DigestVerifyInit": (_INT, (_P, _P, _P, _P, _P)),
    "EVP_PKEY_new_raw_public_key": (_P, (_INT, _P, _BYTES, _SIZE)),
    "EVP_PKEY_free": (None, (_P,)),
    "EVP_MD_CTX_new": (_P, ()),
    "EVP_MD_CTX_free": (None, (_P,)),
    "EVP_sha256": (_P, ()),
    "ERR_clear_error": (None, ()),
    "d2i_PUBKEY": (_P, (_P, _P, ctypes.c_long)),
}
_EVP_PKEY_ED25519 = 1087
_P256 = der.write(
    der.SEQUENCE,
    der.write(der.OID, bytes.fromhex("2a8648ce3d0201")),  # id-ecPublicKey
    der.write(der.OID, bytes.fromhex("2a8648ce3d030107")),  # secp256r1
)


@functools.cache
def _library() -> ctypes.CDLL:
    return libcrypto.load(_FUNCTIONS)


def verify(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Say whether `key` has signed `message`; what cannot be checked is a no."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    library = _library()
    made = _key(library, key)
    context = library.EVP_MD_CTX_new()
    try:
        if not made or not context:
            return False
        digest = None if key.algorithm == ED25519 else library.EVP_sha256()
        encoded = signature if key.algorithm == ED25519 else _ecdsa_der(signature)
        if library.EVP_DigestVerifyInit(context, None, digest, None, made) != 1:
            return False
        answer = library.EVP_DigestVerify(context, encoded, len(encoded), message, len(message))
        return bool(answer == 1)
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(made)
        library.ERR_clear_error()  # the queue is `ssl`'s too: it would take these for its own


def _key(library: ctypes.CDLL, key: PublicKey) -> int | None:
    if key.algorithm == ED25519:
        made: int | None = library.EVP_PKEY_new_raw_public_key(
            _EVP_PKEY_ED25519, None, key.raw, len(key.raw)
        )
        return made
    encoded = der.write(der.SEQUENCE, _P256, der.write(der.BIT_STRING, b"\0" + key.raw))
    buffer = ctypes.create_string_buffer(encoded, len(encoded))
    at = ctypes.c_void_p(ctypes.addressof(buffer))
    read: int | None = library.d2i_PUBKEY(None, ctypes.byref(at), len(encoded))
    return read


def _ecdsa_der(signature: bytes) -> bytes:
    """Turn COSE's r and s of 32 bytes each (RFC 9053, 2.1) into OpenSSL's ECDSA-Sig-Value."""
    half = SIGNATURE_BYTES // 2
    parts = (signature[:half], signature[half:])
    return der.write(der.SEQUENCE, *(der.write(der.INTEGER, _integer(part)) for part in parts))


def _integer(data: bytes) -> bytes:
    short = data.lstrip(b"\0") or b"\0"
    return b"\0" + short if short[0] & 0x80 else short
