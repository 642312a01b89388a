"""What an issuer checks of a TPM 2.0 chip, by `cryptography` alone: keys, certificate, quote.

Each refusal has a reason of its own; none of them says anything about which device it may be:
that is `plantroom.certs.attestation`. Source: TCG TPM 2.0 Library specification, part 1, sections
11.4.10 (KDFa, KDFe), 24 (credential protection); TCG EK Credential Profile.
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Mapping, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from plantroom.certs import der, tpm_wire
from plantroom.certs.tpm_wire import Public, Reader, sized
from plantroom.wire.errors import IdentityError

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
E = TypeVar("E", bound=x509.ExtensionType)
EK_CERTIFICATE_USAGE = x509.ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
MANUFACTURER = x509.ObjectIdentifier("2.23.133.2.1")
_MADE_IN_CHIP = tpm_wire.FIXED_TPM | tpm_wire.FIXED_PARENT | tpm_wire.SENSITIVE_DATA_ORIGIN
_SECRET_LABEL, _DIGEST_BITS, _POINT_BYTES = b"IDENTITY", 256, 32
# The vendors of TPMs (TCG Vendor ID Registry) by the names that people use for them.
_VENDORS = {"STM": "STMicro", "IFX": "Infineon", "NTC": "Nuvoton", "INTC": "Intel"}
_VENDORS |= {"ATML": "Atmel", "NSM": "National", "SNS": "Sinosun", "MSFT": "Microsoft"}


def endorsement_key(public: bytes) -> Key:
    """Return the key that is endorsed: one that the chip made, and that only decrypts.

    Raises:
        IdentityError: with reason `ek-attributes` or `tpm-structure`.
    """
    area = tpm_wire.read_public(public)
    wanted = _MADE_IN_CHIP | tpm_wire.RESTRICTED | tpm_wire.DECRYPT
    if not area.has(wanted, unwanted=tpm_wire.SIGN) or not area.symmetric_bits:
        raise IdentityError("EK is not a restricted decryption key", reason="ek-attributes")
    return _key(area)


def attestation_key(public: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key that signs quotes: made in the chip, bound to it, signs only what it says.

    Raises:
        IdentityError: with reason `ak-attributes` or `tpm-structure`.
    """
    area = tpm_wire.read_public(public)
    wanted = _MADE_IN_CHIP | tpm_wire.RESTRICTED | tpm_wire.SIGN
    if not area.has(wanted, unwanted=tpm_wire.DECRYPT):
        raise IdentityError(
            "AK is not a restricted signing key that the chip made", reason="ak-attributes"
        )
    key = _key(area)
    if not isinstance(key, ec.EllipticCurvePublicKey) or area.scheme != tpm_wire.ECDSA:
        raise IdentityError("AK is not ECDSA on P-256", reason="ak-attributes")
    return key


def _key(area: Public) -> Key:
    try:
        if area.kind == tpm_wire.RSA:
            return rsa.RSAPublicNumbers(area.second, area.first).public_key()
        curve = ec.SECP256R1()
        return ec.EllipticCurvePublicNumbers(area.first, area.second, curve).public_key()
    except ValueError as error:
        raise tpm_wire.malformed(f"its key is none: {error}") from error


def spki_hash(key: Key) -> str:
    """Return the SHA-256 of a key's SPKI as hex: what the selector `tpm:pub_hash` says of an EK."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def check_certificate(
    data: bytes, ek: Key, authorities: Sequence[x509.Certificate], *, now_s: float
) -> str:
    """Check an EK's certificate, and return its maker (the name in `tpm:manufacturer`, or "").

    `authorities`: every certificate that may sign one; a chip brings no intermediate with it.

    Raises:
        IdentityError: with reason `ek-certificate`, `ek-mismatch`, `ek-expired` or `ek-ca-unknown`.
    """
    try:
        _, _, end = der.read(data)  # chips pad what they store
        certificate = x509.load_der_x509_certificate(data[:end])
        certified = certificate.public_key()
        usages = _extension(certificate, x509.ExtendedKeyUsage)
        constraints = _extension(certificate, x509.BasicConstraints)
        maker = _maker(certificate)
    except (ValueError, UnsupportedAlgorithm, IdentityError) as error:
        what = f"EK certificate cannot be read: {error}"
        raise IdentityError(what, reason="ek-certificate") from error
    if not isinstance(certified, Key) or spki_hash(certified) != spki_hash(ek):
        raise IdentityError("EK certificate is another key's", reason="ek-mismatch")
    if (constraints and constraints.ca) or (usages and EK_CERTIFICATE_USAGE not in usages):
        raise IdentityError("certificate is not one of an EK", reason="ek-certificate")
    if not certificate.not_valid_before_utc.timestamp() <= now_s:
        raise IdentityError("EK certificate is not valid yet", reason="ek-expired")
    if certificate.not_valid_after_utc.timestamp() < now_s:
        raise IdentityError("EK certificate has expired", reason="ek-expired")
    if not any(_signed_by(certificate, authority, now_s) for authority in authorities):
        raise IdentityError("no known CA signed the EK certificate", reason="ek-ca-unknown")
    return maker


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate, now_s: float) -> bool:
    constraints = _extension(authority, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return False
    if authority.not_valid_after_utc.timestamp() < now_s:
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _maker(certificate: x509.Certificate) -> str:
    """Read the maker from the certificate's directory name (EK Credential Profile 3.2.9)."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    for name in names.get_values_for_type(x509.DirectoryName) if names else ():
        for attribute in name.get_attributes_for_oid(MANUFACTURER):
            number = str(attribute.value).removeprefix("id:")
            try:
                text = bytes.fromhex(number).decode("ascii").rstrip("\0 ")
            except ValueError:
                continue
            return _VENDORS.get(text, text if text.isprintable() else number)
    return ""


def make_credential(ek_public: bytes, ak_name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Seal a secret to an EK and an AK's name: credential blob and encrypted seed (part 1, 24).

    Only the chip that has this EK opens it, and only while that AK is in it.
    """
    area = tpm_wire.read_public(ek_public)
    key = _key(area)
    if isinstance(key, rsa.RSAPublicKey):
        seed = os.urandom(hashes.SHA256.digest_size)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), _SECRET_LABEL + b"\0")
        encrypted = key.encrypt(seed, oaep)
    else:
        seed, encrypted = _shared_seed(key)
    storage = _kdfa(seed, b"STORAGE", ak_name, area.symmetric_bits)
    encryptor = Cipher(algorithms.AES(storage), CFB(bytes(16))).encryptor()
    identity = encryptor.update(sized(secret)) + encryptor.finalize()
    integrity = _kdfa(seed, b"INTEGRITY", b"", _DIGEST_BITS)
    mac = hmac.digest(integrity, identity + ak_name, "sha256")
    return sized(mac) + identity, encrypted


def _shared_seed(key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    ephemeral = ec.generate_private_key(key.curve)
    shared = ephemeral.exchange(ec.ECDH(), key)
    own, theirs = ephemeral.public_key().public_numbers(), key.public_numbers()
    x, y = own.x.to_bytes(_POINT_BYTES, "big"), own.y.to_bytes(_POINT_BYTES, "big")
    party = x + theirs.x.to_bytes(_POINT_BYTES, "big")
    kdfe = struct.pack(">I", 1) + shared + _SECRET_LABEL + b"\0" + party  # one block is enough
    return hashlib.sha256(kdfe).digest(), sized(x) + sized(y)


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    fixed = label + b"\0" + context + struct.pack(">I", bits)
    block = hmac.digest(key, struct.pack(">I", 1) + fixed, "sha256")  # 256 bits at most
    return block[: bits // 8]


def check_quote(
    ak: ec.EllipticCurvePublicKey,
    said: bytes,
    signature: bytes,
    *,
    extra: bytes,
    pcrs: Mapping[int, bytes],
) -> None:
    """Check that this AK quoted these registers for this question.

    Raises:
        IdentityError: with reason `quote-signature`, `quote-nonce`, `quote-pcrs` or
            `tpm-structure`.
    """
    try:
        ak.verify(_ecdsa(signature), said, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise IdentityError("quote is not signed by the AK", reason="quote-signature") from error
    quote = tpm_wire.read_quote(said)
    if not hmac.compare_digest(quote.extra, extra):
        raise IdentityError("quote is not for this nonce and CSR", reason="quote-nonce")
    values = b"".join(pcrs[pcr] for pcr in sorted(pcrs))
    if quote.pcrs != tuple(sorted(pcrs)) or quote.digest != hashlib.sha256(values).digest():
        raise IdentityError("quote is not of these registers", reason="quote-pcrs")


def _ecdsa(signature: bytes) -> bytes:
    """Turn a TPMT_SIGNATURE into DER."""
    reader = Reader(signature)
    if reader.number(2) != tpm_wire.ECDSA or reader.number(2) != tpm_wire.SHA256:
        raise tpm_wire.malformed("the signature is not ECDSA with SHA-256")
    first, second = (int.from_bytes(reader.sized(), "big") for _ in range(2))
    reader.end()
    return utils.encode_dss_signature(first, second)
