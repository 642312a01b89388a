"""Signed lists of the revoked: whose they are, which is newest, what they deny together."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs import denylist
from plantroom.certs.authority import Authority
from plantroom.certs.denylist import DenyList
from plantroom.certs.entry import Denials
from plantroom.wire import cbor
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import TrustBundle

STOLEN = Denials(spiffe_ids={"spiffe://a.b/agent/x": "stolen"}, serials={"0ABC": "leaked"})


def signed(authority: Authority, denials: Denials, *, sequence: int, at_us: int) -> bytes:
    listed = DenyList(
        issuer=authority.trust_domain,
        sequence=sequence,
        at_us=at_us,
        spiffe_ids=denials.spiffe_ids,
        serials=denials.serials,
    )
    return denylist.signed(authority, listed)


def reason(document: bytes, bundle: TrustBundle) -> str | None:
    try:
        denylist.verified(document, bundle)
    except IdentityError as error:
        return error.reason
    return None


def test_a_list_is_believed_by_its_issuers_bundle_only(
    building: Authority, cloud: Authority
) -> None:
    document = signed(building, STOLEN, sequence=3, at_us=7)
    assert denylist.verified(document, building.bundle()) == DenyList(
        issuer=building.trust_domain,
        sequence=3,
        at_us=7,
        spiffe_ids=STOLEN.spiffe_ids,
        serials=STOLEN.serials,
    )
    assert reason(document, cloud.bundle()) == "denylist-signature"


def test_a_root_cannot_sign_another_domains_list(building: Authority) -> None:
    document = signed(building, STOLEN, sequence=3, at_us=7)
    renamed = dataclasses.replace(building.bundle(), trust_domain="smart-building.cloud")
    assert reason(document, renamed) == "denylist-issuer"


def test_what_a_root_signed_as_something_else_is_no_list(building: Authority) -> None:
    body = cbor.dumps({"issuer": building.trust_domain, "sequence": 9, "at_us": 0})
    document = cbor.dumps({"body": body, "signature": building.sign(body)})
    assert reason(document, building.bundle()) == "denylist-signature"


def test_any_changed_bit_is_noticed(building: Authority) -> None:
    document = signed(building, STOLEN, sequence=3, at_us=7)
    for at in range(len(document)):
        damaged = bytearray(document)
        damaged[at] ^= 1
        assert reason(bytes(damaged), building.bundle()) in {"denylist-signature", "denylist-bad"}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_named_error(data: bytes) -> None:
    nobody = TrustBundle(trust_domain="a.b", roots_der=())
    assert reason(data, nobody) in {"denylist-signature", "denylist-bad"}


def test_a_sequence_only_rises(building: Authority) -> None:
    def made(sequence: int, denials: Denials) -> DenyList:
        document = signed(building, denials, sequence=sequence, at_us=0)
        return denylist.verified(document, building.bundle())

    known = made(5, STOLEN)
    assert denylist.newer(None, known)
    assert denylist.newer(known, made(6, Denials()))
    assert not denylist.newer(known, known)
    for offered in (made(4, Denials()), made(5, Denials())):
        with pytest.raises(IdentityError) as caught:
            denylist.newer(known, offered)
        assert caught.value.reason == "denylist-sequence"
