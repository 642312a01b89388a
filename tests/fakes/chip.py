"""A TPM 2.0 in software, as far as attestation sees one; also one that lies."""

import datetime as dt
import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.x509.oid import NameOID

from plantroom.certs import tpm_check, tpm_wire
from plantroom.certs.attest_message import Challenge, Claim, Proof
from plantroom.certs.tpm_wire import Reader, sized

_BITS = 256


def ecc_public(key: ec.EllipticCurvePrivateKey, *, drop: int = 0, add: int = 0) -> bytes:
    """Write an AK's public area, with other attributes where a test wants to lie."""
    template = tpm_wire.ak_template()
    attributes = int.from_bytes(template[4:8], "big") & ~drop | add
    numbers = key.public_key().public_numbers()
    point = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
    return template[:4] + struct.pack(">I", attributes) + template[8:-4] + point


@dataclass
class Chip:
    """One chip; its keys are new, its registers what a test sets."""

    ek: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    ak: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    registers: dict[int, bytes] = field(default_factory=lambda: {n: bytes(32) for n in range(24)})
    certificate: bytes = b""

    @property
    def ek_public(self) -> bytes:
        """The EK's public area."""
        modulus = self.ek.public_key().public_numbers().n.to_bytes(256, "big")
        return tpm_wire.ek_template(tpm_wire.RSA)[:-256] + modulus

    @property
    def fingerprint(self) -> str:
        """What an entry's selector `tpm:pub_hash` says."""
        return tpm_check.spki_hash(self.ek.public_key())

    def claim(self, ak_public: bytes | None = None) -> Claim:
        """Show the keys."""
        return Claim(
            certificate=self.certificate,
            ek_public=self.ek_public,
            ak_public=ak_public or ecc_public(self.ak),
        )

    def activate(self, challenge: Challenge, ak_public: bytes) -> bytes | None:
        """Open the secret, None where the chip says TPM_RC_INTEGRITY."""
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
        seed, name = self.ek.decrypt(challenge.seed, oaep), tpm_wire.name_of(ak_public)
        reader = Reader(challenge.credential)
        mac, identity = reader.sized(), reader.rest()
        wanted = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", _BITS), identity + name, "sha256")
        if mac != wanted:
            return None
        storage = _kdfa(seed, b"STORAGE", name, 128)
        decryptor = Cipher(algorithms.AES(storage), CFB(bytes(16))).decryptor()
        return Reader(decryptor.update(identity) + decryptor.finalize()).sized()

    def quote(self, extra: bytes, pcrs: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Sign the registers with the AK."""
        digest = hashlib.sha256(b"".join(self.registers[pcr] for pcr in pcrs)).digest()
        said = struct.pack(">IH", tpm_wire.GENERATED, tpm_wire.ATTEST_QUOTE) + sized(b"signer")
        said += sized(extra) + bytes(25) + tpm_wire.selection(pcrs) + sized(digest)
        der = self.ak.sign(said, ec.ECDSA(hashes.SHA256()))
        halves = (sized(part.to_bytes(32, "big")) for part in utils.decode_dss_signature(der))
        return said, struct.pack(">HH", tpm_wire.ECDSA, tpm_wire.SHA256) + b"".join(halves)

    def prove(self, challenge: Challenge, signed: bytes, **other: Any) -> Proof:
        """Answer a challenge with this CSR; keywords are what a test lies about."""
        extra = hashlib.sha256(challenge.nonce + signed).digest()
        said, signature = self.quote(extra, challenge.pcrs)
        secret = self.activate(challenge, ecc_public(self.ak)) or bytes(32)
        honest: dict[str, Any] = {
            "nonce": challenge.nonce,
            "secret": secret,
            "quote": said,
            "signature": signature,
            "pcrs": {pcr: self.registers[pcr] for pcr in challenge.pcrs},
            "csr": signed,
        }
        return Proof(**(honest | other))

    def certify(self, signer: "Maker", *, start_s: int = -60, end_s: int = 86_400) -> None:
        """Get a certificate for the EK from its maker."""
        self.certificate = signer.sign(self.ek.public_key(), start_s=start_s, end_s=end_s)


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    fixed = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.digest(key, fixed, "sha256")[: bits // 8]


class Maker:
    """Who makes chips: a CA of its own."""

    def __init__(self, name: str = "maker") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key(), -60, 86_400)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = builder.add_extension(constraints, critical=True).sign(
            self._key, hashes.SHA256()
        )

    def sign(self, key: Any, *, start_s: int = -60, end_s: int = 86_400, ca: bool = False) -> bytes:
        """Sign an EK's certificate."""
        maker = x509.Name([x509.NameAttribute(tpm_check.MANUFACTURER, "id:53544D20")])
        builder = self._builder(x509.Name([]), key, start_s, end_s)
        for extension in (
            x509.SubjectAlternativeName([x509.DirectoryName(maker)]),
            x509.BasicConstraints(ca=ca, path_length=None),
            x509.ExtendedKeyUsage([tpm_check.EK_CERTIFICATE_USAGE]),
        ):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def _builder(
        self, subject: x509.Name, key: Any, start_s: int, end_s: int
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(seconds=start_s))
            .not_valid_after(now + dt.timedelta(seconds=end_s))
        )
