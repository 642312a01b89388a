"""TPM 2.0 structures as bytes: what a device sends its chip, and what an issuer reads of a chip.

Light and without I/O. Source: TCG TPM 2.0 Library specification, parts 2 (structures) and 3;
TCG EK Credential Profile 2.x, annex B (the templates of endorsement keys).
"""

import hashlib
import struct
from dataclasses import dataclass

from plantroom.certs import der
from plantroom.wire.errors import IdentityError

RSA, AES, SHA256, NULL, RSASSA, ECDSA, ECC, CFB = 1, 6, 0x0B, 0x10, 0x14, 0x18, 0x23, 0x43
P256 = 3
FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
USER_WITH_AUTH, ADMIN_WITH_POLICY, NO_DA = 1 << 6, 1 << 7, 1 << 10
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18
PUBLIC_BYTES_MAX = 1024
GENERATED, ATTEST_QUOTE = 0xFF544347, 0x8018
PCRS = range(24)
NV_EK_RSA, NV_EK_ECC = 0x01C00002, 0x01C0000A  # EK Credential Profile 2.2.1.4
HANDLE_EK_RSA, HANDLE_EK_ECC = 0x81010001, 0x81010002  # TCG Provisioning Guidance 7.8
_EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d0101010500")  # OID, and NULL
_EC_P256 = bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107")  # id-ecPublicKey, prime256v1
_MADE_HERE = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN


def sized(data: bytes) -> bytes:
    """Write a TPM2B: its size in two bytes, then it."""
    return struct.pack(">H", len(data)) + data


class Reader:
    """Reads big-endian fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, count: int) -> bytes:
        """Return so many bytes.

        Raises:
            IdentityError: with reason `tpm-structure` when there are fewer.
        """
        value = self._data[self._at : self._at + count]
        if len(value) != count:
            raise malformed("it ends early")
        self._at += count
        return value

    def number(self, count: int) -> int:
        """Return a number of so many bytes."""
        return int.from_bytes(self.raw(count), "big")

    def sized(self) -> bytes:
        """Return the content of a TPM2B."""
        return self.raw(self.number(2))

    def rest(self) -> bytes:
        """Return what is left."""
        return self.raw(len(self._data) - self._at)

    def end(self) -> None:
        """Refuse what follows the last field."""
        if self._at != len(self._data):
            raise malformed("bytes follow its end")


def malformed(what: str) -> IdentityError:
    """Say that bytes are not the structure that they should be."""
    return IdentityError(f"not a TPM structure: {what}", reason="tpm-structure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A key's public area (TPMT_PUBLIC). `first`, `second`: modulus and exponent, or x and y."""

    kind: int
    attributes: int
    policy: bytes
    symmetric_bits: int
    scheme: int
    first: int
    second: int

    def has(self, wanted: int, *, unwanted: int = 0) -> bool:
        """Say whether all the wanted attributes are set and none of the unwanted."""
        return self.attributes & (wanted | unwanted) == wanted


def read_public(data: bytes) -> Public:
    """Read a public area whose name is a SHA-256: RSA, or ECC on P-256.

    Raises:
        IdentityError: with reason `tpm-structure`.
    """
    if len(data) > PUBLIC_BYTES_MAX:
        raise malformed("it is too long")
    reader = Reader(data)
    kind, name_algorithm, attributes = reader.number(2), reader.number(2), reader.number(4)
    if name_algorithm != SHA256 or kind not in {RSA, ECC}:
        raise malformed("its algorithms are not RSA or ECC with SHA-256")
    policy = reader.sized()
    symmetric_bits = 0
    symmetric = reader.number(2)
    if symmetric != NULL:
        symmetric_bits, mode = reader.number(2), reader.number(2)
        if (symmetric, mode) != (AES, CFB) or symmetric_bits not in {128, 256}:
            raise malformed("its symmetric algorithm is not AES in CFB mode")
    scheme = reader.number(2)
    if scheme != NULL and reader.number(2) != SHA256:
        raise malformed("its scheme does not hash with SHA-256")
    first, second = _rsa(reader) if kind == RSA else _ecc(reader)
    reader.end()
    return Public(
        kind=kind,
        attributes=attributes,
        policy=policy,
        symmetric_bits=symmetric_bits,
        scheme=scheme,
        first=first,
        second=second,
    )


def _rsa(reader: Reader) -> tuple[int, int]:
    bits, exponent, modulus = reader.number(2), reader.number(4), reader.sized()
    if bits not in {2048, 3072, 4096} or len(modulus) * 8 != bits:
        raise malformed("its modulus is not of 2048, 3072 or 4096 bits")
    return int.from_bytes(modulus, "big"), exponent or 65_537


def _ecc(reader: Reader) -> tuple[int, int]:
    if reader.number(2) != P256:
        raise malformed("its curve is not P-256")
    if reader.number(2) != NULL:
        raise malformed("it has a key derivation scheme")
    x, y = reader.sized(), reader.sized()
    if not len(x) <= 32 >= len(y):
        raise malformed("its point is too long")
    return int.from_bytes(x, "big"), int.from_bytes(y, "big")


def name_of(public: bytes) -> bytes:
    """Return an object's name: the algorithm, and the hash of its public area (part 1, 16)."""
    return struct.pack(">H", SHA256) + hashlib.sha256(public).digest()


def spki_sha256(public: bytes) -> str:
    """Return the SHA-256 of a key's SPKI as hex, as the selector `tpm:pub_hash` has it.

    Raises:
        IdentityError: with reason `tpm-structure`.
    """
    area = read_public(public)
    if area.kind == RSA:
        numbers = (_integer(area.first), _integer(area.second))
        algorithm, key = _RSA_ENCRYPTION, der.write(der.SEQUENCE, *numbers)
    else:
        point = b"\x04" + area.first.to_bytes(32, "big") + area.second.to_bytes(32, "big")
        algorithm, key = _EC_P256, point
    spki = der.write(
        der.SEQUENCE, der.write(der.SEQUENCE, algorithm), der.write(der.BIT_STRING, b"\0", key)
    )
    return hashlib.sha256(spki).hexdigest()


def _integer(value: int) -> bytes:
    return der.write(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def selection(pcrs: tuple[int, ...]) -> bytes:
    """Write a TPML_PCR_SELECTION of these registers in the bank of SHA-256."""
    mask = sum(1 << pcr for pcr in set(pcrs))
    return struct.pack(">IHB", 1, SHA256, 3) + mask.to_bytes(3, "little")


def ek_template(kind: int) -> bytes:
    """Return template L-1 (RSA 2048) or L-2 (ECC P-256) of the EK Credential Profile."""
    attributes = _MADE_HERE | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT
    head = struct.pack(">HHI", kind, SHA256, attributes) + sized(_EK_POLICY)
    head += struct.pack(">HHHH", AES, 128, CFB, NULL)
    if kind == RSA:
        return head + struct.pack(">HI", 2048, 0) + sized(bytes(256))
    return head + struct.pack(">HH", P256, NULL) + sized(bytes(32)) + sized(bytes(32))


def ak_template() -> bytes:
    """Return the template of an attestation key: ECC P-256, made in the chip, only for quotes.

    Without NO_DA each power cut after its use would count as a wrong password, and lock the chip.
    """
    attributes = _MADE_HERE | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN
    head = struct.pack(">HHI", ECC, SHA256, attributes) + sized(b"")
    head += struct.pack(">HHH", NULL, ECDSA, SHA256)
    return head + struct.pack(">HH", P256, NULL) + sized(b"") + sized(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a chip says of its registers (TPMS_ATTEST of a quote). `extra`: what the asker gave."""

    extra: bytes
    pcrs: tuple[int, ...]
    digest: bytes


def read_quote(data: bytes) -> Quote:
    """Read a quote over registers of the bank of SHA-256.

    Raises:
        IdentityError: with reason `tpm-structure`.
    """
    reader = Reader(data)
    if reader.number(4) != GENERATED or reader.number(2) != ATTEST_QUOTE:
        raise malformed("a chip did not make it, or it is no quote")
    reader.sized()  # the signer's qualified name: which key signed is seen from the signature
    extra = reader.sized()
    reader.raw(17 + 8)  # clock, resets, restarts, whether that is safe; firmware version
    if reader.number(4) != 1 or reader.number(2) != SHA256:
        raise malformed("it is not of the bank of SHA-256 alone")
    mask = int.from_bytes(reader.raw(reader.number(1)), "little")
    digest = reader.sized()
    reader.end()
    pcrs = tuple(pcr for pcr in range(mask.bit_length()) if mask >> pcr & 1)
    return Quote(extra=extra, pcrs=pcrs, digest=digest)
