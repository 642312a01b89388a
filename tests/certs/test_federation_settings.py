import pytest

from plantroom.certs.federation_settings import FederationSection, endpoints
from plantroom.wire.errors import ConfigError
from plantroom.wire.spiffe import SpiffeId

FRONT = "spiffe://campus.local/agent/front"


def read(*texts: str) -> object:
    return endpoints(FederationSection(bundles=texts), source="gateway.toml")


def test_each_of_the_three_kinds_is_read() -> None:
    spiffe, web, file = endpoints(
        FederationSection(
            bundles=(
                f"campus.local https://campus:8444/bundle {FRONT}",
                "corp.example https://corp.example/bundle.json",
                "lab.local file:///run/lab.json",
            )
        )
    )
    assert (spiffe.trust_domain, spiffe.url) == ("campus.local", "https://campus:8444/bundle")
    assert spiffe.spiffe_id == SpiffeId.parse(FRONT)
    assert web.spiffe_id is None
    assert file.url == "file:///run/lab.json"


@pytest.mark.parametrize(
    "text",
    [
        "campus.local",
        f"campus.local http://campus/bundle {FRONT}",
        f"campus.local https://user@campus/bundle {FRONT}",
        f"campus.local https://campus:x/bundle {FRONT}",
        "campus.local https://campus/bundle agent/front",
        f"Campus.local https://campus/bundle {FRONT}",
        f"campus.local file:///x {FRONT}",
        "campus.local file://host/x",
        f"a b c {FRONT}",
        "",
    ],
)
def test_what_is_no_endpoint_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"federation\.bundles"):
        read(text)
