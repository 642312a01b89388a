"""From a SPIFFE ID's path to a role and a site."""

import pytest

from plantroom.certs.roles import role_of, site_of
from plantroom.wire.spiffe import SpiffeId

BUILDING, CLOUD = "spiffe://building-1.smart.local", "spiffe://smart-building.cloud"


@pytest.mark.parametrize(
    ("name", "role", "site"),
    [
        (f"{BUILDING}/agent/hvac-001", "sensor", "building-1"),
        (f"{BUILDING}/agent/gateway", "gateway", "building-1"),
        (f"{BUILDING}/agent/ingestion", "sensor", "building-1"),
        (f"{BUILDING}/operator/ann", "unknown", "building-1"),
        (f"{BUILDING}/gateway/building-1", "unknown", "building-1"),
        (f"{BUILDING}/agent/a/b", "unknown", "building-1"),
        (f"{BUILDING}/agent", "unknown", "building-1"),
        (f"{CLOUD}/gateway/building-1", "uplink", "building-1"),
        (f"{CLOUD}/agent/ingestion", "ingestion", "cloud"),
        (f"{CLOUD}/agent/front", "front", "cloud"),
        (f"{CLOUD}/agent/hvac-001", "unknown", "cloud"),
        (f"{CLOUD}/agent/gateway", "unknown", "cloud"),
        (f"{CLOUD}/operator/ann", "operator", "cloud"),
        (f"{CLOUD}/inspector/explorer", "inspector", "cloud"),
        (f"{CLOUD}/king/ann", "unknown", "cloud"),
    ],
)
def test_role_and_site_follow_from_the_path(name: str, role: str, site: str) -> None:
    spiffe_id = SpiffeId.parse(name)
    assert (role_of(spiffe_id), site_of(spiffe_id)) == (role, site)


def test_another_cloud_trust_domain_can_be_named() -> None:
    operator = SpiffeId.parse("spiffe://corp.example/operator/ann")
    assert role_of(operator) == "unknown"
    assert role_of(operator, cloud_trust_domain="corp.example") == "operator"
