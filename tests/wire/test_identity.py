"""Identity values: frozen, comparable, and nothing secret in what a log would print."""

import dataclasses

import pytest

from plantroom.wire.identity import Identity, Principal, Svid, TrustBundle
from plantroom.wire.spiffe import SpiffeId

SVID = Svid(
    spiffe_id=SpiffeId("building-1.smart.local", "agent/hvac-001"),
    chain_pem=b"CHAIN",
    key_pem=b"SECRET",
    serial="0a",
    not_before_s=1,
    not_after_s=3601,
)


def test_a_private_key_is_never_printed() -> None:
    identity = Identity(svid=SVID, bundles={}, revision=1)
    assert "SECRET" not in repr(SVID) + str(SVID) + repr(identity)
    assert "hvac-001" in repr(SVID)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (SVID, "key_pem"),
        (TrustBundle(trust_domain="a", roots_der=()), "sequence"),
        (Identity(svid=SVID, bundles={}, revision=1), "revision"),
        (Principal(spiffe_id=SVID.spiffe_id, serial="0a", not_after_s=1), "spiffe_id"),
    ],
)
def test_an_identity_never_changes(value: object, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)


def test_a_bundle_starts_at_sequence_0_and_is_asked_for_every_five_minutes() -> None:
    bundle = TrustBundle(trust_domain="a", roots_der=(b"x",))
    assert (bundle.sequence, bundle.refresh_hint_s) == (0, 300)
