"""Every MUST of SPIFFE that the issuer, its bundles and our validation have to keep, by name.

`X509-SVID` is the standard of that name, `TDB` Trust Domain and Bundle, `FED` Federation, `ID` the
SPIFFE ID; the number is the section. What an issuer makes is checked with `cryptography` alone,
what a validator refuses in a real handshake.
"""

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from plantroom.certs import bundle, svid
from plantroom.certs.authority import Authority
from plantroom.certs.authority_rotation import Rotation
from plantroom.certs.embedded import issue_svid
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Identity, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.handshakes import meet

DOMAIN = "building-1.smart.local"
SENSOR = f"spiffe://{DOMAIN}/agent/hvac-001"
USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@dataclasses.dataclass(frozen=True)
class Made:
    """A leaf, what signed it, and the bundle: of an issuer in the middle of a root's rotation."""

    leaf: x509.Certificate
    signers: list[x509.Certificate]
    roots: list[x509.Certificate]
    document: dict[str, Any]
    before: dict[str, Any]

    def uris(self, certificate: x509.Certificate) -> list[str]:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)


def constraints(certificate: x509.Certificate) -> x509.Extension[x509.BasicConstraints]:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints)


def usage(certificate: x509.Certificate) -> x509.Extension[x509.KeyUsage]:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, clock = tmp_path_factory.mktemp("authority"), SystemClock()
    building = Authority.open(folder, DOMAIN, clock=clock)
    before = bundle.to_jwks(building.bundle())
    rotation = Rotation(folder, DOMAIN, clock=clock)
    rotation.prepare()
    rotation.activate(force=True)
    sensor = SpiffeId.parse(SENSOR)
    chain = issue_svid(building, sensor, ttl_s=3600, dns=("h.local",)).chain_pem
    leaf, *signers = x509.load_pem_x509_certificates(chain)
    roots = [x509.load_der_x509_certificate(root) for root in building.bundle().roots_der]
    document = json.loads(bundle.to_json(building.bundle()))
    return Made(leaf, [*signers, *roots], roots, document, before)


def _is_ec_key(key: dict[str, Any]) -> bool:
    (der,) = key["x5c"]
    public = x509.load_der_x509_certificate(base64.b64decode(der)).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    numbers = public.public_numbers()
    sizes = [base64.urlsafe_b64decode(key[name] + "==") for name in ("x", "y")]
    return (
        key["kty"] == "EC"
        and key["crv"] == "P-256"
        and [int.from_bytes(part) for part in sizes] == [numbers.x, numbers.y]
    )


ISSUED: dict[str, Callable[[Made], object]] = {
    "X509-SVID-2-exactly-one-URI-SAN": lambda m: m.uris(m.leaf) == [SENSOR],
    "X509-SVID-3.1-leaf-has-a-path": lambda m: SpiffeId.parse(m.uris(m.leaf)[0]).path,
    "X509-SVID-3.2-signer-has-no-path": lambda m: all(
        m.uris(each) == [f"spiffe://{DOMAIN}"] for each in m.signers
    ),
    "X509-SVID-4.1-leaf-is-no-CA": lambda m: constraints(m.leaf).value.ca is False,
    "X509-SVID-4.1-signer-is-a-CA": lambda m: all(constraints(s).value.ca for s in m.signers),
    "X509-SVID-4.2-no-URI-name-constraints": lambda m: (
        not any(
            isinstance(extension.value, x509.NameConstraints)
            for signer in m.signers
            for extension in signer.extensions
        )
    ),
    "X509-SVID-4.3-key-usage-is-critical": lambda m: all(
        usage(each).critical for each in (m.leaf, *m.signers)
    ),
    "X509-SVID-4.3-leaf-signs-data-only": lambda m: (
        usage(m.leaf).value.digital_signature
        and not usage(m.leaf).value.key_cert_sign
        and not usage(m.leaf).value.crl_sign
    ),
    "X509-SVID-4.3-signer-signs-certificates": lambda m: all(
        usage(each).value.key_cert_sign for each in m.signers
    ),
    "X509-SVID-4.4-leaf-serves-and-asks": lambda m: (
        list(m.leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == USES
    ),
    "X509-SVID-6.1-one-entry-a-root": lambda m: len(m.document["keys"]) == len(m.roots) == 2,
    "X509-SVID-6.1-use-and-no-kid": lambda m: all(
        key["use"] == "x509-svid" and "kid" not in key for key in m.document["keys"]
    ),
    "X509-SVID-6.1-x5c-is-one-self-signed-root": lambda m: all(
        [x509.load_der_x509_certificate(base64.b64decode(part)) for part in key["x5c"]] == [root]
        and root.issuer == root.subject
        for key, root in zip(m.document["keys"], m.roots, strict=True)
    ),
    "TDB-4.1.1-sequence-rises-with-every-change": lambda m: (
        type(m.document["spiffe_sequence"]) is int
        and m.document["spiffe_sequence"] > m.before["spiffe_sequence"]
    ),
    "TDB-4.1.2-refresh-hint-is-whole-seconds": lambda m: (
        type(m.document["spiffe_refresh_hint"]) is int
    ),
    "TDB-4.2.1-kty-and-its-parameters": lambda m: all(map(_is_ec_key, m.document["keys"])),
    "FED-4.1-a-root-is-published-before-it-signs": lambda m: len(m.before["keys"]) == 1,
}


@pytest.mark.parametrize("rule", ISSUED)
def test_what_the_issuer_makes_keeps(made: Made, rule: str) -> None:
    assert ISSUED[rule](made)


REFUSED: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    "X509-SVID-2-two-URI-SANs": ((SENSOR, SENSOR + "-b"), {}, "uri-san"),
    "X509-SVID-2-two-URI-SANs-one-not-SPIFFE": ((SENSOR, "https://a.b/c"), {}, "uri-san"),
    "X509-SVID-2-no-URI-SAN": ((), {}, "uri-san"),
    "X509-SVID-5.2-scheme": ((f"SPIFFE://{DOMAIN}/agent/x",), {}, "spiffe-id"),
    "X509-SVID-5.2-no-path": ((f"spiffe://{DOMAIN}",), {}, "no-path"),
    "X509-SVID-5.2-root-path": ((f"spiffe://{DOMAIN}/",), {}, "spiffe-id"),
    "X509-SVID-5.2-CA-leaf": ((SENSOR,), {"ca": True}, "ca-leaf"),
    "X509-SVID-5.2-keyCertSign": (
        (SENSOR,),
        {"usage": ("digital_signature", "key_cert_sign")},
        "key-usage",
    ),
    "X509-SVID-5.2-cRLSign": ((SENSOR,), {"usage": ("digital_signature", "crl_sign")}, "key-usage"),
    "X509-SVID-4.3-no-key-usage": ((SENSOR,), {"usage": ()}, "key-usage"),
    "X509-SVID-4.3-key-usage-not-critical": ((SENSOR,), {"usage_critical": False}, "key-usage"),
    "X509-SVID-4.3-no-digitalSignature": (
        (SENSOR,),
        {"usage": ("key_agreement",)},
        "key-usage",
    ),
    "X509-SVID-4.4-clientAuth-alone": (
        (SENSOR,),
        {"extended": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
        "extended-key-usage",
    ),
    "X509-SVID-5.1-expired": ((SENSOR,), {"not_before_s": -99, "not_after_s": -9}, "expired"),
    "X509-SVID-5.1-not-yet-valid": (
        (SENSOR,),
        {"not_before_s": 3600, "not_after_s": 7200},
        "not-yet-valid",
    ),
    "ID-2.1-user-in-authority": ((f"spiffe://user@{DOMAIN}/x",), {}, "spiffe-id"),
    "ID-2.1-port-in-authority": ((f"spiffe://{DOMAIN}:1/x",), {}, "spiffe-id"),
    "ID-2.1-upper-case-trust-domain": ((f"spiffe://{DOMAIN.upper()}/x",), {}, "spiffe-id"),
    "ID-2.2-empty-segment": ((f"spiffe://{DOMAIN}/agent//x",), {}, "spiffe-id"),
    "ID-2.2-dot-segment": ((f"spiffe://{DOMAIN}/agent/../x",), {}, "spiffe-id"),
    "ID-2.2-trailing-slash": ((f"spiffe://{DOMAIN}/agent/",), {}, "spiffe-id"),
    "ID-2-query": ((f"spiffe://{DOMAIN}/agent/x?y",), {}, "spiffe-id"),
    "ID-2-fragment": ((f"spiffe://{DOMAIN}/agent/x#y",), {}, "spiffe-id"),
    "ID-2.3-longer-than-2048-bytes": ((f"spiffe://{DOMAIN}/" + "x" * 2048,), {}, "spiffe-id"),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_what_a_validator_must_refuse_is_refused(
    gateway: Identity, building: Authority, forge: Callable[..., Svid], rule: str
) -> None:
    uris, broken, reason = REFUSED[rule]
    assert meet(gateway, forge(building, *uris, **broken)) == reason


def test_fed_4_2_bundles_of_two_trust_domains_are_never_merged(
    gateway: Identity, cloud: Authority, forge: Callable[..., Svid]
) -> None:
    assert meet(gateway, forge(cloud, SENSOR)) == "wrong-trust-domain"


def _with(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return document | changes


CONSUMED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "X509-SVID-6.2-x5c-missing-is-ignored": lambda d: _with(
        d, keys=[*d["keys"], {"kty": "EC", "use": "x509-svid"}]
    ),
    "X509-SVID-6.2-x5c-empty-is-ignored": lambda d: _with(
        d, keys=[*d["keys"], {"kty": "EC", "use": "x509-svid", "x5c": []}]
    ),
    "X509-SVID-6.2-only-the-first-certificate-counts": lambda d: _with(
        d, keys=[key | {"x5c": [*key["x5c"], "AAAA"]} for key in d["keys"]]
    ),
    "TDB-4.1-unknown-parameters-are-ignored": lambda d: _with(d, more=1),
    "TDB-4.2.2-unknown-use-is-ignored": lambda d: _with(
        d, keys=[*d["keys"], {"kty": "EC", "use": "X509-SVID", "x5c": ["AAAA"]}]
    ),
    "TDB-4.2.2-jwt-svid-is-not-for-us": lambda d: _with(
        d, keys=[*d["keys"], {"kty": "RSA", "use": "jwt-svid", "kid": "a", "n": "", "e": ""}]
    ),
    "TDB-4.1.1-sequence-of-64-bits": lambda d: _with(d, spiffe_sequence=2**63 - 1),
}


@pytest.mark.parametrize("rule", CONSUMED)
def test_what_a_consumer_of_bundles_must_do(building: Authority, rule: str) -> None:
    document = CONSUMED[rule](bundle.to_jwks(building.bundle()))
    found = bundle.from_jwks(DOMAIN, document)
    assert found.roots_der == building.bundle().roots_der
    assert found.sequence == document["spiffe_sequence"]


def test_tdb_4_1_3_keys_must_be_present_and_fed_4_2_an_older_bundle_is_not_taken(
    building: Authority,
) -> None:
    with pytest.raises(IdentityError):
        bundle.from_jwks(DOMAIN, {"spiffe_sequence": 1})
    known = dataclasses.replace(building.bundle(), sequence=2)
    with pytest.raises(IdentityError):
        bundle.replaces(known, building.bundle())
    assert isinstance(known, TrustBundle)


def test_x509_svid_3_2_a_signing_certificate_never_authenticates(building: Authority) -> None:
    for root in building.bundle().roots_der:
        with pytest.raises(IdentityError):
            svid.check_leaf(svid.load(root))
