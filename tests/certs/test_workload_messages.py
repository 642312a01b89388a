"""Messages of the Workload API, against the protocol buffers of PyPI's `spiffe`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spiffe._proto import workload_pb2

from plantroom.certs import workload_messages as messages
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import issue_svid
from plantroom.certs.workload_messages import Offer, Offered
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId
from tests.fakes.workload_agent import offer, response

pb: Any = workload_pb2
domains = st.text("abc.", min_size=1, max_size=9).filter(lambda name: not name.endswith("/"))
offers = st.builds(
    Offer,
    spiffe_id=st.text(max_size=200),
    chain_der=st.binary(max_size=300),
    key_der=st.binary(max_size=20),
    roots_der=st.binary(max_size=20),
    hint=st.text(max_size=5),
)


@given(st.lists(offers, max_size=3).map(tuple), st.dictionaries(domains, st.binary(max_size=200)))
def test_svids_are_read_by_others_as_we_write_them_and_by_us_as_others_write_them(
    svids: tuple[Offer, ...], federated: dict[str, bytes]
) -> None:
    offered = Offered(svids=svids, federated=federated)
    theirs = pb.X509SVIDResponse.FromString(messages.write_svids(offered))
    assert [one.spiffe_id for one in theirs.svids] == list(offered.names)
    assert [one.hint for one in theirs.svids] == [one.hint for one in svids]
    assert dict(theirs.federated_bundles) == {f"spiffe://{k}": v for k, v in federated.items()}
    if all(one.spiffe_id and one.chain_der and one.key_der and one.roots_der for one in svids):
        assert messages.read_svids(theirs.SerializeToString()) == offered


@given(st.dictionaries(domains, st.binary(min_size=1, max_size=200)))
def test_bundles_go_there_and_back(bundles: dict[str, bytes]) -> None:
    theirs = pb.X509BundlesResponse.FromString(messages.write_bundles(bundles))
    assert dict(theirs.bundles) == {f"spiffe://{name}": data for name, data in bundles.items()}
    assert messages.read_bundles(theirs.SerializeToString()) == bundles


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_a_named_error(data: bytes) -> None:
    for read in (messages.read_svids, messages.read_bundles):
        try:
            read(data)
        except IdentityError as error:
            assert error.reason == "workload-api-message"  # noqa: PT017 -- nothing is well too


def test_the_configured_one_of_several_svids_is_taken_with_every_bundle(
    building: Authority, cloud: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    wanted = issue_svid(building, sensor_id, ttl_s=600)
    other = issue_svid(building, gateway_id, ttl_s=600)
    said = response(offer(other, building, "a"), offer(wanted, building, "b"), federated=[cloud])
    found, bundles = messages.identity_of(messages.read_svids(said), sensor_id)
    assert found == wanted
    assert {name: one.roots_der for name, one in bundles.items()} == {
        one.trust_domain: one.bundle().roots_der for one in (building, cloud)
    }


def test_roots_in_another_order_are_the_same_bundle(building: Authority, cloud: Authority) -> None:
    first, second = building.bundle().roots_der[0], cloud.bundle().roots_der[0]
    one, other = (messages.bundle_of("a.b", data) for data in (first + second, second + first))
    assert one == other


def test_what_is_not_ours_is_refused_by_name(
    building: Authority, sensor_id: SpiffeId, gateway_id: SpiffeId
) -> None:
    other = issue_svid(building, gateway_id, ttl_s=600)
    offered = messages.read_svids(response(offer(other, building)))
    with pytest.raises(IdentityError, match=f"gives {gateway_id}, not this ID") as caught:
        messages.identity_of(offered, sensor_id)
    assert caught.value.reason == "wrong-id"
    (one,) = offered.svids
    renamed = Offer(
        spiffe_id=str(sensor_id),
        chain_der=one.chain_der,
        key_der=one.key_der,
        roots_der=one.roots_der,
    )
    with pytest.raises(IdentityError) as caught:
        messages.identity_of(Offered(svids=(renamed,)), sensor_id)
    assert caught.value.reason == "wrong-id"


def test_a_key_of_another_certificate_is_refused(building: Authority, sensor_id: SpiffeId) -> None:
    one, other = (offer(issue_svid(building, sensor_id, ttl_s=600), building) for _ in range(2))
    one.x509_svid_key = other.x509_svid_key
    with pytest.raises(IdentityError) as caught:
        messages.identity_of(messages.read_svids(response(one)), sensor_id)
    assert caught.value.reason == "bad-key"


def test_a_long_list_of_ids_is_cut_short(building: Authority, sensor_id: SpiffeId) -> None:
    svid = issue_svid(building, sensor_id, ttl_s=600)
    offered = messages.read_svids(response(*[offer(svid, building)] * 8))
    with pytest.raises(IdentityError, match="and 3 more"):
        messages.identity_of(offered, SpiffeId("a.b", "c"))
