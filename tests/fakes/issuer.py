"""A certificate authority for tests: SVIDs as they should be, and every way they should not."""

import datetime as dt
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

BUILDING = "building-1.smart.local"
CLOUD = "smart-building.cloud"
HOUR = dt.timedelta(hours=1)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(slots=True)
class Issuer:
    """The root of one trust domain; `svid` makes a good SVID unless told otherwise."""

    trust_domain: str
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    root: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"root {self.trust_domain}")])
        uri = x509.UniformResourceIdentifier(f"spiffe://{self.trust_domain}")
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - HOUR)
            .not_valid_after(_now() + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        )
        self.root = builder.sign(self.key, hashes.SHA256())

    def bundle(self) -> TrustBundle:
        der = self.root.public_bytes(serialization.Encoding.DER)
        return TrustBundle(trust_domain=self.trust_domain, roots_der=(der,))

    def svid(
        self, *uris: str, starts: dt.timedelta = -HOUR, ends: dt.timedelta = HOUR, ca: bool = False
    ) -> Svid:
        """Make a leaf with these URI SANs; `starts` and `ends` count from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() + starts)
            .not_valid_after(_now() + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_usage(ca=ca, leaf=True), critical=True)
        )
        if uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Svid(
            spiffe_id=SpiffeId.parse(uris[0]) if uris else SpiffeId(self.trust_domain, "none"),
            chain_pem=_pem(certificate),
            key_pem=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            serial=f"{certificate.serial_number:x}",
            not_before_s=int((_now() + starts).timestamp()),
            not_after_s=int((_now() + ends).timestamp()),
        )

    def identity(self, path: str, *trusted: "Issuer", revision: int = 1) -> Identity:
        """An identity of this trust domain that trusts these issuers (none named: this one)."""
        bundles = {issuer.trust_domain: issuer.bundle() for issuer in trusted or (self,)}
        svid = self.svid(f"spiffe://{self.trust_domain}/{path}")
        return Identity(svid=svid, bundles=bundles, revision=revision)


def _usage(*, ca: bool, leaf: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
