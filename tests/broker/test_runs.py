import pytest

from plantroom.broker.packets import Publish
from plantroom.broker.properties import Property
from plantroom.broker.runs import Origin, Run, canonical, expired, parse
from plantroom.broker.tree import Match
from tests.broker.harness import publish


def test_run_skips_packet_by_packet() -> None:
    one, two = publish("a", b"1"), publish("longer/topic", b"2" * 200)
    run = Run(Origin(1, "w", "w"), one + two, version=4, match=Match(), at_us=0, count=2)
    assert run.skip(0, 1) == len(one)
    assert run.skip(0, 2) == len(one + two)
    assert [m.topic for m in run.messages()] == ["a", "longer/topic"]


def test_alias_is_not_kept() -> None:
    message = Publish(topic="a", payload=b"", properties={Property.TOPIC_ALIAS: 3})
    (kept,) = parse(canonical(message, 5), 5)
    assert kept.properties == {}


@pytest.mark.parametrize(("age_us", "over"), [(0, False), (4_999_999, False), (5_000_000, True)])
def test_expiry(age_us: int, *, over: bool) -> None:
    message = Publish(topic="a", payload=b"", properties={Property.MESSAGE_EXPIRY: 5})
    assert expired(message, age_us) is over
    assert not expired(Publish(topic="a", payload=b""), age_us)
