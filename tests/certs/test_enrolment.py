"""The rules of enrolment without a socket: bodies that nobody should trust."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plantroom.certs import key_helper, own_svid
from plantroom.certs.authority import Authority
from plantroom.certs.enrolment import Enrolment, Peer
from plantroom.certs.registry import Registry
from plantroom.wire.clock import SystemClock
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Principal
from plantroom.wire.spiffe import SpiffeId

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.fixture
def rules(building: Authority, registry: Registry) -> Enrolment:
    return Enrolment(building, registry, bundles=dict, clock=SystemClock())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.binary(max_size=100)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"token": json_values, "csr": json_values}).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_body_is_an_answer_or_a_named_refusal(rules: Enrolment, body: bytes) -> None:
    peer = Peer(
        principal=Principal(spiffe_id=SpiffeId("a.b", "c"), serial="1", not_after_s=0), late_s=0
    )
    reasons = set()
    for ask in (rules.enrol, lambda body: rules.renew(peer, body)):
        try:
            ask(body)
        except IdentityError as error:
            reasons.add(error.reason)
    assert reasons <= {"bad-request", "csr-bad", "token-unknown"}
    assert reasons


def test_a_bad_csr_does_not_cost_the_token(
    rules: Enrolment, registry: Registry, sensor_id: SpiffeId
) -> None:
    registry.create(sensor_id)
    token = registry.token_create(sensor_id)
    with pytest.raises(IdentityError) as caught:
        rules.enrol(json.dumps({"token": token, "csr": "nothing"}).encode())
    assert caught.value.reason == "csr-bad"
    csr = key_helper.make(sensor_id).csr_pem.decode()
    assert rules.enrol(json.dumps({"token": token, "csr": csr}).encode())


def test_a_new_entry_changes_what_the_next_renewal_gives(
    rules: Enrolment, registry: Registry, sensor_id: SpiffeId
) -> None:
    body = json.dumps({"csr": key_helper.make(sensor_id).csr_pem.decode()}).encode()
    principal = Principal(spiffe_id=sensor_id, serial="1", not_after_s=0)
    lives = []
    for ttl_s in (600, 1200):
        registry.create(sensor_id, ttl_s=ttl_s)
        grant = rules.renew(Peer(principal=principal, late_s=0), body)
        made = own_svid.read_svid(grant.chain_pem, b"")
        lives.append(made.not_after_s - made.not_before_s)
    assert lives == [660, 1260]


def test_an_id_of_another_trust_domain_in_the_registry_is_not_issued(
    rules: Enrolment, registry: Registry
) -> None:
    operator = SpiffeId.parse("spiffe://smart-building.cloud/operator/ann")
    registry.create(operator)
    token = registry.token_create(operator)
    csr = key_helper.make(operator).csr_pem.decode()
    with pytest.raises(IdentityError) as caught:
        rules.enrol(json.dumps({"token": token, "csr": csr}).encode())
    assert caught.value.reason == "wrong-trust-domain"


def test_what_was_issued_outlives_the_process(
    rules: Enrolment, registry: Registry, sensor_id: SpiffeId, tmp_path: Path
) -> None:
    registry.create(sensor_id)
    principal = Principal(spiffe_id=sensor_id, serial="1", not_after_s=0)
    body = json.dumps({"csr": key_helper.make(sensor_id).csr_pem.decode()}).encode()
    grant: Any = rules.renew(Peer(principal=principal, late_s=0), body)
    with contextlib.closing(Registry.open(tmp_path / "registry.db")) as again:
        assert again.last_issued(sensor_id) == grant.issued
