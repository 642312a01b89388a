"""What certificates look like, against RFC 5280's path building by `cryptography`."""

import datetime as dt

import pytest
from cryptography import x509

from plantroom.certs import certificates
from plantroom.wire.spiffe import SpiffeId

NOW_S = 1_800_000_000


@pytest.fixture(scope="module")
def pair() -> tuple[x509.Certificate, x509.Certificate]:
    key = certificates.new_key()
    root = certificates.self_signed("a.b", key, now_s=NOW_S)
    order = certificates.Order(
        spiffe_id=SpiffeId("a.b", "agent/" + "long" * 30),
        public_key=certificates.new_key().public_key(),
        ttl_s=3600,
        dns=("c.d",),
    )
    return root, certificates.svid(order, issuer=root, key=key, now_s=NOW_S)


def test_a_leaf_names_its_root_and_is_signed_by_it(
    pair: tuple[x509.Certificate, x509.Certificate],
) -> None:
    root, leaf = pair
    leaf.verify_directly_issued_by(root)
    issuer_key = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    root_key = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer_key.key_identifier == root_key.digest


def test_two_roots_of_one_trust_domain_have_two_names() -> None:
    names = {
        certificates.self_signed("a.b", certificates.new_key(), now_s=NOW_S).subject
        for _ in range(2)
    }
    assert len(names) == 2


def test_no_name_constraint_is_written(pair: tuple[x509.Certificate, x509.Certificate]) -> None:
    for certificate in pair:
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_class(x509.NameConstraints)


def test_a_long_name_still_fits_a_common_name(
    pair: tuple[x509.Certificate, x509.Certificate],
) -> None:
    (name,) = pair[1].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert len(name.value) == 64


def test_serials_are_positive_and_random(pair: tuple[x509.Certificate, x509.Certificate]) -> None:
    serials = [certificate.serial_number for certificate in pair]
    assert all(2**100 < serial < 2**159 for serial in serials)
    assert len(set(serials)) == 2


def test_times_are_utc_and_whole(pair: tuple[x509.Certificate, x509.Certificate]) -> None:
    root, leaf = pair
    assert root.not_valid_before_utc == dt.datetime.fromtimestamp(NOW_S - 60, dt.UTC)
    assert leaf.not_valid_after_utc == dt.datetime.fromtimestamp(NOW_S + 3600, dt.UTC)
