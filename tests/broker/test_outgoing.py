from plantroom.broker.outgoing import Outgoing
from plantroom.broker.packets import V5, Publish
from plantroom.broker.properties import Property
from plantroom.broker.runs import Origin, Run, canonical, parse
from plantroom.broker.tree import Grant, Match

GRANT = Grant(qos=1)


def run_of(message: Publish, *, retained: bool = False) -> Run:
    return Run(
        Origin(1, "w", "w"),
        canonical(message, V5),
        version=V5,
        match=Match(),
        at_us=0,
        qos=message.qos,
        retained=retained,
    )


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
        run = run_of(message, retained=retained)
        data = Outgoing(version).frame(
            run, message, grant, now_us=2_000_000, qos=1, packet_id=4, dup=True
        )
        (found,) = parse(data, version)
        return found

    old = sent(4, GRANT)
    assert (old.qos, old.packet_id, old.dup, old.retain, old.properties) == (1, 4, True, False, {})
    new = sent(5, Grant(qos=1, retain_as_published=True))
    assert new.retain
    assert new.properties == {Property.MESSAGE_EXPIRY: 3, Property.CONTENT_TYPE: "c"}
    assert sent(4, GRANT, retained=True).retain


def test_what_is_too_old_or_too_large_is_not_sent() -> None:
    message = Publish(topic="a", payload=bytes(50), properties={Property.MESSAGE_EXPIRY: 5})
    run = run_of(message)
    assert Outgoing(5).frame(run, message, GRANT, now_us=4_999_999)
    assert not Outgoing(5).frame(run, message, GRANT, now_us=5_000_000)
    assert Outgoing(5).frame(run, message, GRANT, now_us=5_000_000, qos=1, packet_id=1, dup=True)
    assert not Outgoing(5, packet_bytes_max=50).frame(run, message, GRANT, now_us=0)
    assert list(Outgoing(5, packet_bytes_max=50).urgent(run, GRANT, 0)) == []
    assert len(list(Outgoing(5, packet_bytes_max=70).urgent(run, GRANT, 0))) == 1


def test_topic_aliases_are_used_as_far_as_the_client_takes_them() -> None:
    outgoing = Outgoing(5, aliases_max=2, packet_bytes_max=100)

    def sent(topic: str, size: int = 1) -> tuple[str, int | None] | None:
        message = Publish(topic=topic, payload=bytes(size))
        data = outgoing.frame(run_of(message), message, GRANT, now_us=0)
        if not data:
            return None
        (found,) = parse(data, 5)
        return found.topic, found.properties.get(Property.TOPIC_ALIAS)

    assert sent("a", 200) is None, "and so its alias is not known to the client"
    assert sent("a") == ("a", 1)
    assert sent("b") == ("b", 2)
    assert sent("c") == ("c", None)
    assert sent("a") == ("", 1)
    assert sent("b") == ("", 2)
    assert not outgoing.plain
    assert Outgoing(5).plain


def test_what_fits_without_an_alias_is_not_too_large_for_one() -> None:
    # [MQTT-3.1.2-25]: what is discarded counts as delivered
    fits = Publish(topic="a", payload=bytes(50))
    alone = Outgoing(5).frame(run_of(fits), fits, GRANT, now_us=0)
    outgoing = Outgoing(5, aliases_max=1, packet_bytes_max=len(alone))
    assert outgoing.frame(run_of(fits), fits, GRANT, now_us=0) == alone
    small = Publish(topic="a", payload=b"x")
    (first,) = parse(outgoing.frame(run_of(small), small, GRANT, now_us=0), 5)
    assert first.topic == "a", "its alias was not known yet"
    assert first.properties == {Property.TOPIC_ALIAS: 1}
    assert outgoing.frame(run_of(fits), fits, GRANT, now_us=0) == alone, "the alias is longer"
