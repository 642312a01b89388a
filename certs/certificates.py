"""What certificates of this system look like: a root, and an SVID signed by it. No I/O.

Source: SPIFFE X509-SVID sections 3 and 4; RFC 5280.
"""

import datetime as dt
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from plantroom.wire.spiffe import SpiffeId

ROOT_TTL_S = 10 * 365 * 86_400
BACKDATE_S_MAX = 60  # clocks of peers differ
_USES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an SVID shall say; `dns` and `ips` are for MQTT clients that check host names."""

    spiffe_id: SpiffeId
    public_key: ec.EllipticCurvePublicKey
    ttl_s: int
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()


def self_signed(
    trust_domain: str, key: ec.EllipticCurvePrivateKey, *, now_s: int
) -> x509.Certificate:
    """Make a root; each has a name of its own, so that no chain is built to the wrong one."""
    serial = x509.random_serial_number()
    name = _name((NameOID.SERIAL_NUMBER, f"{serial:x}"))
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")  # SPIFFE X509-SVID 3
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_time(now_s - BACKDATE_S_MAX))
        .not_valid_after(_time(now_s + ROOT_TTL_S))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(ski, critical=False)
        .sign(key, hashes.SHA256())
    )


def svid(
    order: Order,
    *,
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now_s: int,
    not_after_s: int | None = None,
) -> x509.Certificate:
    """Make an SVID: back-dated by at most a tenth of its life.

    It never outlives `not_after_s`, by default its issuer's end.
    """
    aki = _authority_key(issuer)
    last_s = int(issuer.not_valid_after_utc.timestamp()) if not_after_s is None else not_after_s
    end_s = min(now_s + order.ttl_s, last_s)
    return (
        x509.CertificateBuilder()
        .subject_name(_name((NameOID.COMMON_NAME, order.spiffe_id.name[:64])))
        .issuer_name(issuer.subject)
        .public_key(order.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now_s - min(BACKDATE_S_MAX, order.ttl_s // 10)))
        .not_valid_after(_time(end_s))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USES), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(order)), critical=False)
        .add_extension(aki, critical=False)
        .sign(key, hashes.SHA256())
    )


def crossed(
    new: x509.Certificate, *, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, now_s: int
) -> x509.Certificate:
    """Let the root before vouch for a new one: same name and key, signed by the old."""
    public = new.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):  # pragma: no cover -- ours always are
        raise TypeError("a root of ours has an elliptic-curve key")
    end = min(new.not_valid_after_utc, issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.subject)
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now_s - BACKDATE_S_MAX))
        .not_valid_after(end)
    )
    for extension in new.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.add_extension(_authority_key(issuer), critical=False).sign(key, hashes.SHA256())


def request(trust_domain: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateSigningRequest:
    """Ask an upstream CA for a signing certificate of this trust domain."""
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")  # SPIFFE X509-SVID 3.2
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name((NameOID.COMMON_NAME, trust_domain[:64])))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _names(order: Order) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(order.spiffe_id))]
    names += [x509.DNSName(name) for name in order.dns]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in order.ips]
    return names


def _name(attribute: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Plantroom")
    return x509.Name([organization, x509.NameAttribute(*attribute)])


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _time(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
