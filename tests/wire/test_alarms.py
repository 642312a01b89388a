from plantroom.wire import alarm
from plantroom.wire.alarms import CAUSES_MAX, STANDING_MAX, Standing
from plantroom.wire.link import Message

NAME = ("building-1", "ledger-imbalance", "hvac-001")


def test_an_alarm_is_over_with_its_last_cause() -> None:
    standing = Standing()
    assert not standing.over(NAME, "7"), "it does not stand"
    standing.raised(NAME, "7")
    standing.raised(NAME, "8")
    assert standing.causes(NAME) == {"7", "8"}
    assert not standing.over(NAME, "7")
    assert NAME in standing
    assert standing.over(NAME, "8")
    assert not standing.over(NAME, "8")
    assert not standing


def test_what_an_earlier_life_raised_is_over_with_the_first_cause_that_is() -> None:
    standing = Standing()
    standing.heard(alarm.raised(*NAME, "text", 1))
    assert standing.over(NAME, "7")
    standing.heard(alarm.raised(*NAME, "text", 1))
    standing.heard(alarm.cleared(*NAME, "text", 2))
    assert NAME not in standing


def test_ones_own_alarm_that_is_heard_keeps_its_causes() -> None:
    standing = Standing()
    standing.raised(NAME, "7")
    standing.heard(alarm.raised(*NAME, "text", 1))
    assert standing.causes(NAME) == {"7"}


def test_what_is_no_alarm_is_nothing() -> None:
    standing = Standing()
    for payload in (b"", b"[]", b"\xff", b'{"state": "raised"'):
        standing.heard(Message(topic="v1/building-1/alarm/x/y", payload=payload))
    standing.heard(Message(topic="elsewhere", payload=b"{}"))
    assert not standing


def test_what_is_remembered_is_bounded() -> None:
    standing = Standing()
    for number in range(STANDING_MAX + 5):
        standing.raised(("s", "r", f"d{number}"))
    assert ("s", "r", "d4") not in standing
    for number in range(CAUSES_MAX + 5):
        standing.raised(NAME, str(number))
    assert len(standing.causes(NAME)) == CAUSES_MAX
