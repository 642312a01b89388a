import logging

import pytest

from plantroom.broker.audit import PEERS_MAX, TOTAL_FACTOR, Audit
from plantroom.broker.guard import Peer
from plantroom.wire.identity import Principal
from plantroom.wire.policy import Decision
from tests.broker.harness import HVAC, JumpingClock


class StillClock(JumpingClock):
    """Stands still unless it jumps."""

    def wall_us(self) -> int:
        return self.ahead_us

    def monotonic_us(self) -> int:
        return self.ahead_us


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> StillClock:
    caplog.set_level(logging.INFO, "plantroom.broker.audit")
    return StillClock()


def peer(number: int = 1) -> Peer:
    return Peer(None, f"10.0.{number >> 8}.{number & 255}:5")


def test_line_has_the_fields_and_cannot_be_forged(
    clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    decision = Decision(
        allow=False, reason="no", ttl_s=1, revision="r", decision_id="d-7", source="s"
    )
    forger = Peer(None, "10.0.0.1:5", client_id="evil\nevent=connected")
    Audit(clock, lines_max=1, lines_s=1).record(
        "publish-denied", forger, topic="a/b", decision=decision
    )
    (line,) = caplog.messages
    assert line.startswith("event=publish-denied spiffe_id=anonymous client_id=")
    assert line.endswith(
        'client_id="evil\\nevent=connected" peer=10.0.0.1:5 reason=no topic=a/b decision_id=d-7'
    )


def test_peer_who_writes_too_much_is_counted_and_others_are_heard(
    clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    audit = Audit(clock, lines_max=10, lines_s=0.5)
    for port in range(1000):  # a new connection each time: the address is the same
        audit.record("refused", Peer(None, f"10.0.0.9:{port}"))
    assert len(caplog.messages) == 10
    assert audit.suppressed == 990
    audit.record(
        "connected", Peer(Principal(spiffe_id=HVAC, serial="1", not_after_s=9), "10.0.0.9:7")
    )
    assert len(caplog.messages) == 11
    clock.jump(2.0)
    audit.record("refused", Peer(None, "10.0.0.9:7"))
    assert caplog.messages[-1].endswith("suppressed=990")
    audit.record("refused", Peer(None, "10.0.0.9:7"))
    assert len(caplog.messages) == 12


def test_what_was_left_out_is_reported_without_another_line(
    clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    audit = Audit(clock, lines_max=1, lines_s=0.001)
    audit.tick()
    for _ in range(5):
        audit.record("refused", peer())
    audit.tick()
    assert len(caplog.messages) == 1, "not yet"
    clock.jump(11)
    audit.tick()
    assert caplog.messages[1:] == ["event=suppressed peer=10.0.0.1 suppressed=4"]
    clock.jump(2000)
    audit.tick()
    assert not audit._peers, "forgotten when its time is over"


def test_many_peers_fill_neither_memory_nor_log(
    clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    audit = Audit(clock, lines_max=1, lines_s=0.001)
    count = PEERS_MAX + 500
    for number in range(count):
        audit.record("refused", peer(number))
    assert len(audit._peers) == PEERS_MAX
    assert len(caplog.messages) == TOTAL_FACTOR
    assert audit.suppressed == count - TOTAL_FACTOR
    caplog.clear()
    audit.tick()
    assert len(caplog.messages) <= 101
    assert "no longer remembered" in caplog.messages[-1]
