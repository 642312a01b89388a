import pytest

from plantroom.lab import issuers
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError, UsageError


def test_each_trust_domain_has_its_issuer(set_up: Layout) -> None:
    for name in ("building-1.smart.local", "smart-building.cloud"):
        issuer = issuers.responsible(set_up, name)
        assert issuer.authority().bundle().trust_domain == name


def test_another_trust_domain_is_a_usage_error_that_names_those_that_there_are(
    set_up: Layout,
) -> None:
    with pytest.raises(UsageError, match=r"elsewhere.*building-1.*smart-building"):
        issuers.responsible(set_up, "elsewhere.example")


def test_looking_makes_nothing(layout: Layout) -> None:
    with pytest.raises(UnreachableError):
        issuers.responsible(layout, "building-1.smart.local")
    assert not layout.state.exists()
