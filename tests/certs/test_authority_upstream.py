"""An authority under somebody else's CA: the rules for its chain, and what peers make of it."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plantroom.certs import authority_upstream, certificates, denylist
from plantroom.certs.authority import Authority
from plantroom.certs.authority_rotation import Rotation
from plantroom.certs.denylist import DenyList
from plantroom.certs.embedded import issue_svid
from plantroom.wire.errors import IdentityError, UsageError
from plantroom.wire.identity import Identity
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.handshakes import meet

DOMAIN = "building-1.smart.local"


class Corporate:
    """A CA of the company's, with no SPIFFE ID of its own."""

    def __init__(self, parent: "Corporate | None" = None) -> None:
        self.key = certificates.new_key()
        self.name = certificates._name((x509.NameOID.COMMON_NAME, f"Corporate {id(self)}"))
        self.certificate = self._of(parent or self)

    def _of(self, parent: "Corporate") -> x509.Certificate:
        return parent.sign(self.key.public_key(), self.name, uri=None, path_length=None)

    def sign(  # noqa: PLR0913 -- one keyword for each rule that can be broken
        self,
        key: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        *,
        uri: str | None = f"spiffe://{DOMAIN}",
        path_length: int | None = 0,
        ca: bool = True,
        usage: str = "key_cert_sign",
        ends_s: int = 86_400,
        ski: bool = True,
    ) -> x509.Certificate:
        usages = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "key_cert_sign",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        ) | {usage: True}
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + dt.timedelta(seconds=ends_s))
            .add_extension(
                x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True
            )
            .add_extension(x509.KeyUsage(**usages), critical=True)
        )
        if ski:
            builder = builder.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key), critical=False
            )
        if uri is not None:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(*chain: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)


@pytest.fixture(scope="module")
def root() -> Corporate:
    return Corporate()


@pytest.fixture(scope="module")
def issuing(root: Corporate) -> Corporate:
    return Corporate(root)


@pytest.fixture
def rotation(building: Authority, tmp_path: Path, clock: Any) -> Rotation:
    assert building.trust_domain == DOMAIN
    return Rotation(tmp_path / "building-authority", DOMAIN, clock=clock)


def signed(rotation: Rotation, issuing: Corporate, **broken: Any) -> x509.Certificate:
    csr = x509.load_pem_x509_csr(rotation.request())
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return issuing.sign(key, csr.subject, **broken)


def test_the_request_asks_for_a_signing_certificate_of_the_trust_domain_and_stays(
    rotation: Rotation,
) -> None:
    csr = x509.load_pem_x509_csr(rotation.request())
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    constraints = csr.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{DOMAIN}"]
    assert constraints.ca
    assert csr.is_signature_valid
    assert rotation.request() == csr.public_bytes(serialization.Encoding.PEM)


def test_svids_chain_to_the_upstream_root_and_show_what_is_between(  # noqa: PLR0913, PLR0917
    rotation: Rotation,
    building: Authority,
    root: Corporate,
    issuing: Corporate,
    gateway_id: SpiffeId,
    tmp_path: Path,
    clock: Any,
) -> None:
    chain = (signed(rotation, issuing), issuing.certificate, root.certificate)
    rotation.prepare_signed(pem(*chain))
    rotation.activate(force=True)
    rotation.retire(force=True)
    made = issue_svid(building, gateway_id, ttl_s=60)
    assert made.chain_pem.endswith(pem(*chain[:2]))
    bundle = building.bundle()
    assert bundle.roots_der == (root.certificate.public_bytes(serialization.Encoding.DER),)
    assert meet(Identity(svid=made, bundles={DOMAIN: bundle}, revision=1), made) == gateway_id
    again = Authority.open(tmp_path / "building-authority", DOMAIN, clock=clock)
    assert again.bundle() == bundle
    assert rotation.status()[1][0].kind == "upstream"


def test_a_chain_with_its_key_needs_no_request(
    rotation: Rotation, building: Authority, root: Corporate, gateway_id: SpiffeId
) -> None:
    key = certificates.new_key()
    ours = root.sign(key.public_key(), certificates._name((x509.NameOID.COMMON_NAME, "ours")))
    rotation.prepare_signed(pem(ours, root.certificate), certificates.key_pem(key))
    rotation.activate(force=True)
    made = issue_svid(building, gateway_id, ttl_s=60)
    assert made.chain_pem.endswith(pem(ours))


def test_an_svid_does_not_outlive_what_signs_it(
    rotation: Rotation, building: Authority, root: Corporate, gateway_id: SpiffeId
) -> None:
    ours = signed(rotation, root, ends_s=100)
    rotation.prepare_signed(pem(ours, root.certificate))
    rotation.activate(force=True)
    made = issue_svid(building, gateway_id, ttl_s=3600)
    assert made.not_after_s == int(ours.not_valid_after_utc.timestamp())


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ({"ca": False}, "basic constraints"),
        ({"usage": "digital_signature"}, "key usage"),
        ({"uri": "spiffe://building-2.smart.local"}, "SPIFFE ID"),
        ({"uri": f"spiffe://{DOMAIN}/agent/x"}, "SPIFFE ID"),
        ({"ends_s": -60}, "within its times"),
        ({"ski": False}, "subjectKeyIdentifier"),
    ],
)
def test_a_certificate_that_breaks_a_rule_is_refused(
    rotation: Rotation, root: Corporate, broken: dict[str, Any], rule: str
) -> None:
    chain = (signed(rotation, root, **broken), root.certificate)
    with pytest.raises(IdentityError, match=rule) as caught:
        rotation.prepare_signed(pem(*chain))
    assert caught.value.reason == "upstream"
    assert [each.state for each in rotation.status()[1]] == ["active"]


def test_a_chain_that_is_not_whole_or_not_ours_is_refused(
    rotation: Rotation, root: Corporate, issuing: Corporate
) -> None:
    ours = signed(rotation, issuing)
    with pytest.raises(IdentityError, match="the last has to be the root"):
        rotation.prepare_signed(pem(ours, issuing.certificate))
    with pytest.raises(IdentityError, match="not signed by the next"):
        rotation.prepare_signed(pem(ours, root.certificate))
    with pytest.raises(IdentityError, match="not of our key"):
        rotation.prepare_signed(pem(issuing.certificate, root.certificate))
    with pytest.raises(IdentityError, match="cannot be read"):
        rotation.prepare_signed(b"nothing")
    narrow = Corporate(root)
    narrow.certificate = root.sign(narrow.key.public_key(), narrow.name, uri=None, path_length=0)
    ours = signed(rotation, narrow)
    with pytest.raises(IdentityError, match="path length 0"):
        rotation.prepare_signed(pem(ours, narrow.certificate, root.certificate))


def test_a_chain_without_a_request_or_key_is_refused(rotation: Rotation, root: Corporate) -> None:
    with pytest.raises(UsageError, match="no key for this certificate"):
        rotation.prepare_signed(pem(root.certificate))


def test_keys_of_another_kind_are_refused() -> None:
    with pytest.raises(IdentityError, match="key cannot be read"):
        authority_upstream.parse_key(b"")
    with pytest.raises(IdentityError, match="request cannot be read"):
        authority_upstream.parse_request(b"")


def test_another_buildings_authority_under_the_same_root_cannot_speak_for_this_one(
    building: Authority, root: Corporate, gateway: Identity
) -> None:
    """The attack that pooling roots invites: a common corporate root, a greedy neighbour."""
    neighbour = certificates.new_key()
    theirs = root.sign(
        neighbour.public_key(),
        certificates._name((x509.NameOID.COMMON_NAME, "neighbour")),
        uri="spiffe://building-2.smart.local",
    )
    key = certificates.new_key()
    victim = SpiffeId.parse(f"spiffe://{DOMAIN}/agent/gateway")
    order = certificates.Order(spiffe_id=victim, public_key=key.public_key(), ttl_s=600)
    now_s = int(dt.datetime.now(dt.UTC).timestamp())
    leaf = certificates.svid(order, issuer=theirs, key=neighbour, now_s=now_s)
    forged = issue_svid(building, victim, ttl_s=60)
    shown = type(forged)(
        spiffe_id=victim,
        chain_pem=pem(leaf, theirs),
        key_pem=certificates.key_pem(key),
        serial="1",
        not_before_s=now_s,
        not_after_s=now_s + 600,
    )
    common = type(building.bundle())(
        trust_domain=DOMAIN,
        roots_der=(root.certificate.public_bytes(serialization.Encoding.DER),),
    )
    trusting = Identity(svid=gateway.svid, bundles={DOMAIN: common}, revision=1)
    assert meet(trusting, shown) == "wrong-trust-domain"


def test_a_list_of_the_revoked_is_believed_by_the_upstream_root_and_a_neighbours_is_not(  # noqa: PLR0913, PLR0917
    rotation: Rotation,
    building: Authority,
    root: Corporate,
    issuing: Corporate,
    tmp_path: Path,
    clock: Any,
) -> None:
    chain = (signed(rotation, issuing), issuing.certificate, root.certificate)
    rotation.prepare_signed(pem(*chain))
    rotation.activate(force=True)
    rotation.retire(force=True)
    listed = DenyList(issuer=DOMAIN, sequence=3, at_us=1, serials={"AB": "leaked"})
    document = denylist.signed(building, listed)
    assert denylist.verified(document, building.bundle()) == listed
    other = "building-2.smart.local"
    neighbour = Authority.open(tmp_path / "neighbour", other, clock=clock)
    theirs = Rotation(tmp_path / "neighbour", other, clock=clock)
    certificate = signed(theirs, root, uri=f"spiffe://{other}")
    theirs.prepare_signed(pem(certificate, root.certificate))
    theirs.activate(force=True)
    theirs.retire(force=True)
    with pytest.raises(IdentityError) as caught:
        denylist.verified(denylist.signed(neighbour, listed), building.bundle())
    assert caught.value.reason == "denylist-signature"


def test_a_list_signed_by_a_new_root_is_believed_by_who_knows_the_old_one(
    rotation: Rotation, building: Authority
) -> None:
    before = building.bundle()
    rotation.prepare()
    rotation.activate(force=True)
    listed = DenyList(issuer=DOMAIN, sequence=3, at_us=1)
    assert denylist.verified(denylist.signed(building, listed), before) == listed
