import pytest

from plantroom.cloud.membership import belongs_by_name


@pytest.mark.parametrize(
    ("spiffe_id", "belongs"),
    [
        ("spiffe://building-1.smart.local/agent/hvac-001", True),
        ("spiffe://building-2.smart.local/agent/hvac-001", False),
        ("spiffe://building-10.smart.local/agent/hvac-001", False),
        ("spiffe://smart-building.cloud/agent/ingestion", False),
        ("building-1", False),
        ("", False),
    ],
)
def test_only_the_sites_own_trust_domain_belongs(spiffe_id: str, belongs: bool) -> None:  # noqa: FBT001
    assert belongs_by_name(spiffe_id, "building-1") is belongs
