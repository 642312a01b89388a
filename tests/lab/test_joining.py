from pathlib import Path

import pytest

from plantroom.lab import joining
from plantroom.lab.building import FRONT_ID, GATEWAY_ID, TRUST_DOMAIN, UPLINK_ID
from plantroom.lab.layout import Layout


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1:8444"), ("::1", "[::1]:8444"), ("0.0.0.0", "here.local:8444")],  # noqa: S104 -- what is told
)
def test_the_address_is_the_one_that_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, address: str
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "here.local")
    layout = Layout(tmp_path)
    config = layout.config("gateway")
    config.parent.mkdir()
    config.write_text(f'[identity]\nenrol_host = "{host}"\n')
    assert joining.enrol_address(layout, TRUST_DOMAIN) == address


def test_without_a_configuration_it_is_this_host_and_the_default_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "here.local")
    for domain in (GATEWAY_ID.trust_domain, FRONT_ID.trust_domain, UPLINK_ID.trust_domain):
        assert joining.enrol_address(Layout(tmp_path), domain) == "here.local:8444"
