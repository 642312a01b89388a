import pytest

from plantroom.broker.packets import Publish
from plantroom.broker.properties import Property
from plantroom.broker.runs import Origin, Run, canonical, expired, outgoing, parse
from plantroom.broker.tree import Grant, Match
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


def test_receiver_gets_its_own_form() -> None:
    message = Publish(
        topic="a",
        payload=b"x",
        qos=2,
        retain=True,
        packet_id=9,
        properties={Property.MESSAGE_EXPIRY: 5, Property.CONTENT_TYPE: "c"},
    )

    def sent(version: int, grant: Grant, *, retained: bool = False) -> Publish:
        data = outgoing(
            message,
            version=version,
            grant=grant,
            qos=1,
            packet_id=4,
            dup=True,
            retained=retained,
            age_us=2_000_000,
        )
        (found,) = parse(data, version)
        return found

    old = sent(4, Grant(qos=1))
    assert (old.qos, old.packet_id, old.dup, old.retain, old.properties) == (1, 4, True, False, {})
    new = sent(5, Grant(qos=1, retain_as_published=True))
    assert new.retain
    assert new.properties == {Property.MESSAGE_EXPIRY: 3, Property.CONTENT_TYPE: "c"}
    assert sent(4, Grant(qos=1), retained=True).retain
