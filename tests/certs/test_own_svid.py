"""One's own SVID, read light."""

from collections.abc import Callable

import pytest

from plantroom.certs import own_svid
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.svid import parse_svid
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Svid
from plantroom.wire.spiffe import SpiffeId


def test_the_light_reader_and_the_strict_one_agree(
    building: Authority, sensor_id: SpiffeId
) -> None:
    made = issue_svid(building, sensor_id, ttl_s=600)
    assert own_svid.read_svid(made.chain_pem, made.key_pem) == made
    assert parse_svid(made.chain_pem, made.key_pem) == made


def test_a_key_belongs_to_its_own_svid_only(building: Authority, sensor_id: SpiffeId) -> None:
    one, other = (issue_svid(building, sensor_id, ttl_s=600) for _ in range(2))
    assert own_svid.key_belongs(one)
    assert not own_svid.key_belongs(own_svid.read_svid(one.chain_pem, other.key_pem))
    assert not own_svid.key_belongs(own_svid.read_svid(one.chain_pem, b""))


def test_what_is_no_svid_is_refused(building: Authority, forge: Callable[..., Svid]) -> None:
    two = forge(building, "spiffe://a.b/c", "spiffe://a.b/d")
    other = forge(building, "https://a.b/c")
    reasons = []
    for chain in (b"", two.chain_pem, other.chain_pem, two.chain_pem * 9):
        with pytest.raises(IdentityError) as caught:
            own_svid.read_svid(chain, b"")
        reasons.append(caught.value.reason)
    assert reasons == ["bad-certificate", "uri-san", "spiffe-id", "bad-certificate"]
