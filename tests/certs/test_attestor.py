"""What every attestor promises, whichever it is."""

from pathlib import Path

import pytest

from plantroom.certs import attestors, key_helper
from plantroom.certs.attestor import Attestor
from plantroom.certs.authority import Authority
from plantroom.certs.enrolment_client import Server
from plantroom.wire.errors import PlantroomError
from plantroom.wire.spiffe import SpiffeId

NOWHERE = Server(
    host="127.0.0.1",
    port=1,
    spiffe_id=SpiffeId("building-1.smart.local", "agent/gateway"),
    timeout_s=2,
)


@pytest.fixture(params=["join-token", "tpm"])
def attestor(request: pytest.FixtureRequest, tmp_path: Path, sensor_id: SpiffeId) -> Attestor:
    (tmp_path / "join-token").write_text("token\n")
    return attestors.choose(
        request.param,
        token_file=tmp_path / "join-token",
        spiffe_id=sensor_id,
        tpm="unix:/no/such/tpm",
        tpm_ek="rsa",
    )


def test_an_attestor_fails_with_a_named_error_and_can_be_asked_again(
    attestor: Attestor, building: Authority, sensor_id: SpiffeId
) -> None:
    pending = key_helper.make(sensor_id)
    assert attestor.ready()
    assert attestor.root_sha256() == ""
    for _ in range(2):
        with pytest.raises(PlantroomError) as caught:
            attestor.enrol(NOWHERE, building.bundle(), pending)
        assert caught.value.retry_helps
    attestor.done()
    attestor.done()
    assert attestor.ready() == attestor.every_time  # a token is used up, a chip never is
