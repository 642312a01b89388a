from plantroom.broker.backlog import Backlog, Stored
from plantroom.broker.deliveries import Delivery
from plantroom.broker.runs import Origin, Run
from plantroom.broker.tree import Grant, Match
from tests.broker.harness import publish

GRANT = Grant(qos=2)


def run_of(count: int, *, volatile: bool = False) -> Run:
    data = b"".join(publish("t", packet_id=n + 1) for n in range(count))
    origin = Origin(1, "w", "w")
    return Run(
        origin, data, version=4, match=Match(), at_us=0, count=count, qos=2, volatile=volatile
    )


def stored(ordinal: int, count: int) -> Stored:
    return run_of(count), GRANT, 2, ordinal


def aside(ordinal: int) -> Delivery:
    return Delivery(run_of(1, volatile=True), GRANT, 1, ordinal, 0, 1, 0, dup=False)


def told(backlog: Backlog, runs: list[Stored], end: int) -> list[tuple[int, int, bool, bool]]:
    return [(d.ordinal, d.count, d.dup, d.released) for d in backlog.load(runs, end)]


def test_what_was_never_sent_comes_whole_and_what_was_one_by_one_with_dup() -> None:
    backlog = Backlog()
    backlog.stored, backlog.loaded, backlog.flown = 10, 1, 4
    assert told(backlog, [stored(0, 6), stored(6, 4)], 10) == [
        (1, 1, True, False),
        (2, 1, True, False),
        (3, 1, True, False),
        (4, 2, False, False),
        (6, 4, False, False),
    ]
    assert not backlog.behind


def test_what_is_finished_is_left_out_and_what_is_released_says_so() -> None:
    backlog = Backlog()
    backlog.stored, backlog.flown = 4, 4
    backlog.finished, backlog.released = frozenset({1}), {2}
    assert told(backlog, [stored(0, 4)], 4) == [
        (0, 1, True, False),
        (2, 1, True, True),
        (3, 1, True, False),
    ]


def test_volatile_messages_come_in_their_turn_and_the_last_when_all_is_loaded() -> None:
    backlog = Backlog()
    backlog.stored = 9
    backlog.put_aside(aside(2))
    backlog.put_aside(aside(9))
    assert [o for o, *_ in told(backlog, [stored(0, 2), stored(3, 2)], 5)] == [0, 2, 3]
    assert backlog.behind
    assert [o for o, *_ in told(backlog, [stored(5, 4)], 9)] == [5, 9]
    assert not backlog.aside


def test_leaving_starts_again_at_what_is_not_done() -> None:
    backlog = Backlog()
    backlog.stored = backlog.loaded = 10
    backlog.finished = frozenset({1, 5})
    backlog.leave(4, {6}, [aside(11)])
    assert (backlog.loaded, backlog.finished, backlog.behind) == (4, frozenset({5, 6}), True)
    assert [part.ordinal for part in backlog.aside] == [11]
    backlog.clear()
    assert not backlog.behind
    assert not backlog.aside
