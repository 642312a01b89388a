from pathlib import Path

import pytest

from plantroom.certs import atomic
from plantroom.certs.enrolled import ERROR_FILE
from plantroom.certs.entry import Issued
from plantroom.lab import issuers, svids
from plantroom.lab.building import GATEWAY_ID, TRUST_DOMAIN
from plantroom.lab.layout import Layout
from plantroom.wire.errors import IdentityError
from plantroom.wire.spiffe import SpiffeId

SENSOR = SpiffeId(TRUST_DOMAIN, "agent/hvac-001")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.gateway.mkdir()
    with issuers.building(made).registry() as registry:
        registry.create(SENSOR)
        registry.create(GATEWAY_ID)
        registry.record_issued(
            Issued(spiffe_id=SENSOR, serial="AB", at_us=1_000_000_000, not_after_s=4600)
        )
    return made


def test_an_issued_svid_says_when_it_renews_and_what_that_failed_on(layout: Layout) -> None:
    (one,) = svids.shown(layout, None)
    assert one == {
        "spiffe_id": str(SENSOR),
        "issuer": f"spiffe://{TRUST_DOMAIN}",
        "serial": "AB",
        "issued_at": "1970-01-01T00:16:40Z",
        "not_after": "1970-01-01T01:16:40Z",
        "renews_at": "1970-01-01T00:46:40Z",
        "overdue": True,
    }
    folder = layout.device_identity(SENSOR.name)
    folder.mkdir(parents=True)
    atomic.write(folder / ERROR_FILE, b"enrolment port does not answer\n")
    (again,) = svids.shown(layout, SENSOR)
    assert again["last_error"] == "enrolment port does not answer"


def test_who_has_none_is_not_shown_and_who_is_unknown_is_an_error(layout: Layout) -> None:
    assert svids.shown(layout, GATEWAY_ID) == []
    with pytest.raises(IdentityError):
        svids.shown(layout, SpiffeId(TRUST_DOMAIN, "agent/nobody"))
