import logging

import pytest

from plantroom.broker import audit
from plantroom.broker.guard import Peer
from plantroom.wire.policy import Decision


def test_line_has_the_fields_and_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    decision = Decision(
        allow=False, reason="no", ttl_s=1, revision="r", decision_id="d-7", source="s"
    )
    peer = Peer(None, "10.0.0.1:5", client_id="evil\nevent=connected")
    with caplog.at_level(logging.INFO, "plantroom.broker.audit"):
        audit.record("publish-denied", peer, topic="a/b", decision=decision)
    (line,) = caplog.messages
    assert line.startswith("event=publish-denied spiffe_id=anonymous client_id=")
    assert line.endswith(
        'client_id="evil\\nevent=connected" peer=10.0.0.1:5 reason=no topic=a/b decision_id=d-7'
    )
