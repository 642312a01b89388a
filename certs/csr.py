"""Make a P-256 key and a CSR in a short process of its own: `python -m plantroom.certs.csr ID`.

A device makes a new key every half hour; `cryptography` would stay in its memory for good. Here
OpenSSL's libcrypto is called directly; `cryptography` is the way where that is not found. Prints
the key (PKCS#8) and the CSR, both PEM. Source: RFC 2986, RFC 5958.
"""

import ctypes
import os
import sys

from plantroom.certs import der, libcrypto, pem

_ECDSA_SHA256 = der.write(der.OID, bytes.fromhex("2a8648ce3d040302"))
_EXTENSION_REQUEST = der.write(der.OID, bytes.fromhex("2a864886f70d01090e"))
_BIO_CTRL_INFO = 3
_SIGNATURE_BYTES_MAX = 128
_PUBLIC_KEY_BYTES_MAX = 256

_P, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_SIGNATURES: libcrypto.Signatures = {
    # EVP_PKEY_Q_keygen is variadic: the three fixed arguments only
    "EVP_PKEY_Q_keygen": (_P, (_P, _P, ctypes.c_char_p)),
    "EVP_PKEY_free": (None, (_P,)),
    "i2d_PUBKEY": (_INT, (_P, _P)),
    "EVP_MD_CTX_new": (_P, ()),
    "EVP_MD_CTX_free": (None, (_P,)),
    "EVP_sha256": (_P, ()),
    "EVP_DigestSignInit": (_INT, (_P, _P, _P, _P, _P)),
    "EVP_DigestSign": (_INT, (_P, _P, _P, ctypes.c_char_p, _SIZE)),
    "BIO_new": (_P, (_P,)),
    "BIO_s_mem": (_P, ()),
    "BIO_free": (_INT, (_P,)),
    "BIO_ctrl": (ctypes.c_long, (_P, _INT, ctypes.c_long, _P)),
    "PEM_write_bio_PKCS8PrivateKey": (_INT, (_P, _P, _P, _P, _INT, _P, _P)),
}


def to_be_signed(public_key: bytes, spiffe_id: str) -> bytes:
    """Return the CertificationRequestInfo: an empty subject, the key, the ID as URI SAN."""
    name = der.write(der.SEQUENCE, der.write(der.URI, spiffe_id.encode("ascii")))
    san = der.write(
        der.SEQUENCE,
        der.write(der.OID, der.SUBJECT_ALT_NAME),
        der.write(der.OCTET_STRING, name),
    )
    extensions = der.write(der.SET, der.write(der.SEQUENCE, san))
    return der.write(
        der.SEQUENCE,
        der.write(der.INTEGER, b"\0"),
        der.write(der.SEQUENCE),
        public_key,
        der.write(der.EXPLICIT_0, der.write(der.SEQUENCE, _EXTENSION_REQUEST, extensions)),
    )


class Libcrypto:
    """The few calls of OpenSSL 3 that a key and a signature need."""

    def __init__(self, name: str | None = None) -> None:
        self._library = libcrypto.load(_SIGNATURES, name)

    def key_and_csr(self, spiffe_id: str) -> bytes:
        """Return a new key and its CSR as PEM.

        Raises:
            OSError: when OpenSSL refuses.
        """
        library = self._library
        key = library.EVP_PKEY_Q_keygen(None, None, b"EC", ctypes.c_char_p(b"P-256"))
        if not key:
            raise OSError("OpenSSL made no key")
        try:
            request = to_be_signed(self._public_key(key), spiffe_id)
            signature = der.write(der.BIT_STRING, b"\0" + self._sign(key, request))
            algorithm = der.write(der.SEQUENCE, _ECDSA_SHA256)
            csr = der.write(der.SEQUENCE, request, algorithm, signature)
            return self._key_pem(key) + pem.encode(pem.REQUEST, csr)
        finally:
            library.EVP_PKEY_free(key)

    def _public_key(self, key: int) -> bytes:
        buffer = ctypes.create_string_buffer(_PUBLIC_KEY_BYTES_MAX)
        at = ctypes.c_void_p(ctypes.addressof(buffer))
        size = self._library.i2d_PUBKEY(key, ctypes.byref(at))
        if not 0 < size <= _PUBLIC_KEY_BYTES_MAX:
            raise OSError("OpenSSL gave no public key")
        return buffer.raw[:size]

    def _sign(self, key: int, data: bytes) -> bytes:
        library = self._library
        context = library.EVP_MD_CTX_new()
        try:
            buffer = ctypes.create_string_buffer(_SIGNATURE_BYTES_MAX)
            size = ctypes.c_size_t(_SIGNATURE_BYTES_MAX)
            begun = library.EVP_DigestSignInit(context, None, library.EVP_sha256(), None, key)
            if (
                begun != 1
                or library.EVP_DigestSign(context, buffer, ctypes.byref(size), data, len(data)) != 1
            ):
                raise OSError("OpenSSL did not sign")
            return buffer.raw[: size.value]
        finally:
            library.EVP_MD_CTX_free(context)

    def _key_pem(self, key: int) -> bytes:
        library = self._library
        memory = library.BIO_new(library.BIO_s_mem())
        try:
            if library.PEM_write_bio_PKCS8PrivateKey(memory, key, None, None, 0, None, None) != 1:
                raise OSError("OpenSSL did not write the key")
            at = ctypes.c_void_p()
            size = library.BIO_ctrl(memory, _BIO_CTRL_INFO, 0, ctypes.byref(at))
            return ctypes.string_at(at, size)
        finally:
            library.BIO_free(memory)


def key_and_csr(spiffe_id: str) -> bytes:
    """Return a new key and its CSR as PEM, by whichever library is there."""
    try:
        library = Libcrypto()
    except (OSError, AttributeError):  # not there, or older than OpenSSL 3
        return _with_cryptography(spiffe_id)
    return library.key_and_csr(spiffe_id)


def _with_cryptography(spiffe_id: str) -> bytes:
    from cryptography import x509  # noqa: PLC0415 -- only where libcrypto is not found
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 -- same
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 -- same

    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    csr = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    text = serialization.Encoding.PEM
    return key.private_bytes(
        text, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + csr.public_bytes(text)


def main() -> None:
    """Print a key and a CSR for the SPIFFE ID in the first argument."""
    os.write(1, key_and_csr(sys.argv[1]))


if __name__ == "__main__":
    main()
