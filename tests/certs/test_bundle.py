"""Trust bundles as JWKS, there and back, and what is refused."""

import base64
import dataclasses
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import bundle, certificates, pem
from plantroom.certs.authority import Authority
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import TrustBundle

TRUST_DOMAIN = "building-1.smart.local"


def root(key: Any) -> bytes:
    name = x509.Name([])
    builder = certificates.self_signed(TRUST_DOMAIN, certificates.new_key(), now_s=1_800_000_000)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(builder.not_valid_before_utc)
        .not_valid_after(builder.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=="), "big")


def test_a_bundle_goes_there_and_back(building: Authority) -> None:
    own = TrustBundle(
        trust_domain=TRUST_DOMAIN,
        roots_der=(*building.bundle().roots_der, root(certificates.new_key())),
        sequence=42,
        refresh_hint_s=60,
    )
    assert bundle.from_json(TRUST_DOMAIN, bundle.to_json(own)) == own


@pytest.mark.parametrize(
    ("curve", "name"),
    [(ec.SECP256R1(), "P-256"), (ec.SECP384R1(), "P-384"), (ec.SECP521R1(), "P-521")],
)
def test_ec_roots_carry_their_key(curve: ec.EllipticCurve, name: str) -> None:
    key = ec.generate_private_key(curve)
    own = TrustBundle(trust_domain=TRUST_DOMAIN, roots_der=(root(key),))
    (jwk,) = bundle.to_jwks(own)["keys"]
    numbers = key.public_key().public_numbers()
    assert (jwk["kty"], jwk["crv"], jwk["use"]) == ("EC", name, "x509-svid")
    assert (number(jwk["x"]), number(jwk["y"])) == (numbers.x, numbers.y)
    assert "kid" not in jwk


def test_an_rsa_root_carries_its_key() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    own = TrustBundle(trust_domain=TRUST_DOMAIN, roots_der=(root(key),))
    (jwk,) = bundle.to_jwks(own)["keys"]
    numbers = key.public_key().public_numbers()
    assert jwk["kty"] == "RSA"
    assert (number(jwk["n"]), number(jwk["e"])) == (numbers.n, numbers.e)


def test_keys_of_another_use_are_left_out(building: Authority) -> None:
    table = bundle.to_jwks(building.bundle())
    jwt = {"kty": "EC", "use": "jwt-svid", "kid": "k", "crv": "P-256", "x": "", "y": ""}
    table["keys"] += [jwt, {"kty": "EC"}, {"use": "x509-svid"}, {"use": "x509-svid", "x5c": []}]
    assert bundle.from_jwks(TRUST_DOMAIN, table) == building.bundle()


def test_a_document_without_sequence_and_hint_has_the_defaults(building: Authority) -> None:
    table = {"keys": bundle.to_jwks(building.bundle())["keys"]}
    read = bundle.from_jwks(TRUST_DOMAIN, table)
    assert (read.sequence, read.refresh_hint_s) == (0, 300)


@pytest.mark.parametrize(
    "change",
    [
        {"keys": None},
        {"keys": [{"use": "x509-svid", "x5c": "MAA="}]},
        {"keys": [{"use": "x509-svid", "x5c": ["MAA=", "MAA="]}]},
        {"keys": [{"use": "x509-svid", "x5c": ["%%%"]}]},
        {"keys": [{"use": "x509-svid", "x5c": ["MAA="]}]},
        {"spiffe_sequence": -1},
        {"spiffe_sequence": True},
        {"spiffe_sequence": "3"},
        {"spiffe_refresh_hint": 1.5},
    ],
)
def test_a_bundle_that_breaks_a_rule_is_refused(building: Authority, change: Any) -> None:
    table = bundle.to_jwks(building.bundle()) | change
    with pytest.raises(IdentityError) as caught:
        bundle.from_json(TRUST_DOMAIN, json.dumps(table).encode())
    assert caught.value.reason in {"bad-bundle", "bad-certificate"}


def test_of_several_certificates_in_a_key_the_first_counts(building: Authority) -> None:
    table = bundle.to_jwks(building.bundle())
    table["keys"][0]["x5c"].append("MAA=")
    assert bundle.from_jwks(TRUST_DOMAIN, table) == building.bundle()


def test_a_bundle_is_replaced_by_a_newer_one_only(building: Authority, cloud: Authority) -> None:
    def with_sequence(sequence: int, authority: Authority = building) -> TrustBundle:
        return dataclasses.replace(authority.bundle(), trust_domain=TRUST_DOMAIN, sequence=sequence)

    known = with_sequence(5)
    assert bundle.replaces(None, known)
    assert bundle.replaces(known, with_sequence(6))
    assert not bundle.replaces(known, known)
    assert bundle.replaces(with_sequence(0), with_sequence(0, cloud))  # neither counts
    for offered in (with_sequence(4), with_sequence(5, cloud)):
        with pytest.raises(IdentityError) as caught:
            bundle.replaces(known, offered)
        assert caught.value.reason == "bundle-sequence"
    with pytest.raises(IdentityError, match="no root"):
        bundle.replaces(known, dataclasses.replace(known, roots_der=(), sequence=9))


def test_too_many_roots_and_too_many_bytes_are_refused(building: Authority) -> None:
    table = bundle.to_jwks(building.bundle())
    table["keys"] *= 65
    with pytest.raises(IdentityError, match="65 roots"):
        bundle.from_jwks(TRUST_DOMAIN, table)
    with pytest.raises(IdentityError, match="bytes"):
        bundle.from_json(TRUST_DOMAIN, b" " * (bundle.BUNDLE_BYTES_MAX + 1))


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_bundle_or_a_named_error(data: bytes) -> None:
    found = {reason(bundle.from_json, "a.b", data), reason(bundle.all_from_json, data)}
    found.add(reason(bundle.from_file, "a.b", data))
    assert found <= {None, "bad-bundle", "bad-certificate"}


def reason(read: Any, *arguments: object) -> str | None:
    try:
        read(*arguments)
    except IdentityError as error:
        return error.reason
    return None


def test_several_bundles_go_there_and_back(building: Authority, cloud: Authority) -> None:
    both = {part.trust_domain: part.bundle() for part in (building, cloud)}
    assert bundle.all_from_json(bundle.all_to_json(both)) == both


def test_pem_roots_make_a_bundle_that_any_published_one_replaces(building: Authority) -> None:
    own = building.bundle()
    read = bundle.from_pem(TRUST_DOMAIN, pem.bundle_pem(own.roots_der))
    assert read.roots_der == own.roots_der
    assert bundle.newer(read, own)
    assert not bundle.newer(own, read)
