from plantroom.broker.deliveries import IDS, Delivery, packet_id
from plantroom.broker.runs import Origin, Run
from plantroom.broker.tree import Grant, Match
from tests.broker.harness import publish


def test_packet_ids_are_never_zero_and_come_in_turn() -> None:
    assert [packet_id(n) for n in (0, 1, IDS - 1, IDS, IDS + 1)] == [1, 2, IDS, 1, 2]


def test_part_keeps_numbers_and_messages_together() -> None:
    run = Run(Origin(1, "w", "w"), publish("a") * 5, version=4, match=Match(), at_us=0, count=5)
    whole = Delivery(run, Grant(qos=1), 1, 70_000, 0, 5, 0, dup=False)
    part = whole.part(2, 3, dup=True)
    assert (part.ordinal, part.first, part.count, part.dup) == (70_002, 2, 3, True)
